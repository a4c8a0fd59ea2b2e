#include "core/workspace/scripts.hpp"

#include "core/base/child.hpp"

namespace banger::workspace {

namespace {

std::string assign(const std::string& name, const std::string& value) {
    return name + "='" + [&] {
        std::string out;
        for (const char c : value)
            c == '\'' ? out += "'\\''" : out += c;
        return out;
    }() + "'\n";
}

constexpr const char* common = R"script(
umask 022
LC_ALL=C
export LC_ALL
tell() { printf 'banger %s\n' "$*"; }
fail() { tell "failed $*"; exit 1; }
safe_git() { git -c core.fsmonitor=false -c core.hooksPath=/dev/null -c core.quotePath=true "$@"; }
count() { tr -dc '\000' | wc -c; }
)script";

// In a checkout that was prepared before: has anybody worked in it since?
// 'old' and 'files' in .git/banger are what was copied the last time and now: what is only in the
// first is removed. Everything else that lies there, such as what a build left, stays.
constexpr const char* prepare = R"script(
is_changed() {
    cd "$dir" || return 0
    [ "$has_git" = git ] || return 1
    [ "$(git rev-parse HEAD 2>/dev/null)" = "$(cat .git/banger/head 2>/dev/null)" ] || return 0
    newer='find . -path ./.git -prune -o ! -type d -cnewer .git/banger/prepared -print0'
    all=$($newer | count)
    if [ "$all" != 0 ]; then
        ignored=$($newer | safe_git check-ignore -z --stdin | count)
        [ "$all" = "$ignored" ] || return 0
    fi
    [ "$(safe_git ls-files -d -z | count)" = "$(cat .git/banger/deleted 2>/dev/null)" ] || return 0
    return 1
}
has_git=no; command -v git >/dev/null 2>&1 && has_git=git
has_gzip=no; command -v gzip >/dev/null 2>&1 && has_gzip=gzip
state=new
if [ -e "$dir" ] || [ -L "$dir" ]; then
    if [ -f "$dir/.git/banger/incomplete" ]; then state=incomplete
    elif [ -f "$dir/.git/banger/prepared" ]; then
        state=prepared
        [ "$forced" = 1 ] || ! (is_changed) || state=changed
    elif [ -d "$dir" ] && [ -z "$(ls -A "$dir")" ]; then state=new
    else state=foreign
    fi
fi
# The commit that was copied the last time, while everything of it is still there.
have=-
if [ "$has_git" = git ] && [ "$state" != new ] && [ "$state" != foreign ]; then
    last=$(cat "$dir/.git/banger/head" 2>/dev/null)
    [ -z "$last" ] || ! (cd "$dir" && git rev-list --objects --no-object-names --no-walk "$last" --) \
        >/dev/null 2>&1 || have=$last
fi
tell "$state $has_git $has_gzip $have"
read -r word packing files objects || exit 1
[ "$word" = go ] || exit 0

mkdir -p "$dir" && cd "$dir" || fail "cannot make $dir"
if [ -f .git/banger/readonly ]; then
    cd / && umount "$dir" 2>/dev/null
    cd "$dir" || exit 1
fi
mkdir -p .git/banger && : >.git/banger/incomplete || fail "cannot write in $dir"
[ ! -f .git/banger/files ] || mv .git/banger/files .git/banger/old
# The index knows which files are as they were checked out: those are not touched again.
[ "$files" != checkout ] || [ ! -f .git/index ] || mv .git/index .git/banger/index
kept=
[ "$objects" != keep ] || kept="! -name objects"
find .git -mindepth 1 -maxdepth 1 ! -name banger $kept -exec rm -rf {} +
options=
if tar --version 2>/dev/null | grep -q GNU; then
    options="-b 512"
    [ "$state" = new ] || options="$options --recursive-unlink"
fi
unpack() { tar -xo $options -f - ; }
case $packing in
gzip) gzip -dc | unpack ;;
*) unpack ;;
esac || fail "the files could not be unpacked in $dir"
[ -f .git/banger/files ] || fail "not everything arrived"
if [ -f .git/banger/old ]; then
    cat .git/banger/old .git/banger/files .git/banger/files | sort -z | uniq -zu | xargs -0 rm -f --
fi
if [ "$files" = checkout ]; then
    tell "checkout"
    [ ! -f .git/banger/index ] || mv .git/banger/index .git/index
    if [ ! -f .git/index ] || ! safe_git read-tree --reset "$base" 2>/dev/null; then
        rm -f .git/index .git/index.lock
        safe_git read-tree "$base" || fail "git read-tree in $dir"
    fi
    if [ -s .git/banger/staged ]; then
        safe_git update-index -z --index-info <.git/banger/staged || fail "git update-index in $dir"
    fi
    # Files whose times or modes alone are others (as --readonly makes them) are looked into, not written.
    safe_git update-index -q --refresh >/dev/null 2>&1
    safe_git -c checkout.workers=0 -c checkout.thresholdForParallelism=500 \
        checkout-index -q -f -u -z --stdin <.git/banger/checkout || fail "git checkout-index in $dir"
fi
if [ "$has_git" = git ]; then
    safe_git ls-files -d -z | count >.git/banger/deleted
    git rev-parse HEAD >.git/banger/head
    [ -z "$user_name" ] || git config --global user.name "$user_name"
    [ -z "$user_email" ] || git config --global user.email "$user_email"
fi
rm -f .git/banger/old .git/banger/staged .git/banger/checkout .git/banger/readonly .git/banger/index
if [ "$readonly" = 1 ]; then
    : >.git/banger/readonly
    chmod -R a-w . 2>/dev/null
fi
: >.git/banger/prepared
rm -f .git/banger/incomplete
# What is changed from here on is newer, and is_changed sees it: a file's time moves on with the clock's ticks.
tries=0
until [ -n "$(find .git/banger/now -cnewer .git/banger/prepared 2>/dev/null)" ] || [ $tries = 50 ]; do
    : >.git/banger/now
    tries=$((tries + 1))
done
rm -f .git/banger/now
if [ "$readonly" = 1 ]; then
    cd / && mount --bind "$dir" "$dir" && mount -o remount,bind,ro "$dir" || fail "cannot make $dir read-only"
fi
tell "done"
)script";

constexpr const char* write_patch = R"script(
cd "$dir" 2>/dev/null || fail "there is no $dir in the guest"
command -v git >/dev/null 2>&1 || fail "the guest has no git"
folder=$(git rev-parse --absolute-git-dir 2>/dev/null) || fail "$dir is no git repository any more"
git cat-file -e "$base^{commit}" 2>/dev/null || fail "$dir does not have the commit $base"
work=$(mktemp -d "$folder/banger-export.XXXXXX") || fail "cannot write in $folder"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# What is known of files there saves reading them all; the index itself is never touched.
[ ! -f "$folder/index" ] || cp "$folder/index" "$work/index" || fail "cannot write in $folder"
mkdir "$work/objects" || fail "cannot write in $folder"
GIT_INDEX_FILE=$work/index
GIT_ALTERNATE_OBJECT_DIRECTORIES=$(git rev-parse --git-path objects)
case $GIT_ALTERNATE_OBJECT_DIRECTORIES in /*) ;; *) GIT_ALTERNATE_OBJECT_DIRECTORIES=$PWD/$GIT_ALTERNATE_OBJECT_DIRECTORIES ;; esac
GIT_OBJECT_DIRECTORY=$work/objects
export GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
safe_git -c advice.addEmbeddedRepo=false -c core.safecrlf=false add -A . >/dev/null || fail "git add in $dir"
tell "patch"
safe_git diff --cached --binary --full-index --no-color --no-ext-diff --no-textconv --no-relative \
    --ignore-submodules=all --src-prefix=a/ --dst-prefix=b/ -U3 "$base" -- || exit 1
)script";

}  // namespace

std::string prepare_script(const PrepareScript& values) {
    return assign("dir", values.guest_path) + assign("base", values.base) +
           assign("forced", values.is_forced ? "1" : "0") +
           assign("readonly", values.is_readonly ? "1" : "0") +
           assign("user_name", values.user_name) + assign("user_email", values.user_email) +
           common + prepare;
}

std::string export_script(const std::string& guest_path, const std::string& base) {
    return assign("dir", guest_path) + assign("base", base) + common + write_patch;
}

}  // namespace banger::workspace
