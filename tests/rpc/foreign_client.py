"""Calls the test server with the varlink package for Python, which nobody of this project wrote.

Usage: foreign_client.py SOCKET. Exit status 77 when the package is not installed.
"""

import sys

try:
    import varlink
except ImportError:
    sys.exit(77)

with varlink.Client.new_with_address("unix:" + sys.argv[1]) as client:
    # The names of the interfaces come with GetInfo, their texts with GetInterfaceDescription; the
    # package parses the texts and makes the methods from them.
    assert client.get_interfaces() == ["org.varlink.service", "io.banger.Clock"], client.get_interfaces()

    with client.open("org.varlink.service") as service:
        info = service.GetInfo()
        assert info["vendor"] == "banger" and info["product"] == "test", info

    with client.open("io.banger.Clock") as clock:
        assert clock.Now() == {"seconds": 1000}
        assert clock.Echo("ümläut € \"quoted\"") == {"text": "ümläut € \"quoted\""}

        replies = list(clock.Wait("nothing", _more=True))
        assert len(replies) == 2, replies
        assert replies[0]["progress"]["stage"] == "waiting for nothing", replies
        assert replies[0]["progress"]["unit"] == "items", replies
        assert replies[1]["waited"] == "nothing", replies

        clock.Echo("one way", _oneway=True)
        assert clock.Now() == {"seconds": 1000}

        try:
            clock.Fail("in_use")
            raise AssertionError("Fail did not fail")
        except varlink.VarlinkError as error:
            assert error.error() == "io.banger.Clock.Failed", error.error()
            assert error.parameters() == {
                "code": "in_use", "message": "it does not work", "remedy": "Do without."
            }, error.parameters()

        try:
            clock.NotYet()
            raise AssertionError("NotYet is there")
        except varlink.VarlinkError as error:
            assert error.error() == "org.varlink.service.MethodNotImplemented", error.error()

        try:
            clock.Fail("no such code")
            raise AssertionError("a bad parameter was taken")
        except varlink.VarlinkError as error:
            assert error.error() == "org.varlink.service.InvalidParameter", error.error()
            assert error.parameters()["parameter"] == "code", error.parameters()

print("all calls answered as expected")
