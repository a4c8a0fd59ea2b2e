"""Tells everybody who connects the address that it sees: say_peer.py ADDRESS PORT."""
import socket, sys

server = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    connection, peer = server.accept()
    with connection:
        connection.sendall((peer[0] + "\n").encode())
