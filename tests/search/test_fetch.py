"""Downloading from a server on this machine that serves, cuts, refuses and lies."""

import hashlib
import io
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from search.data import download as downloading
from search.data import fetch as fetching
from search.data.download import Remote, download
from search.data.fetch import SOURCES, Archive, Source, fetch, unpack
from search.errors import InputError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """What the server serves and how it behaves; `asked` are the Range headers it saw."""

    files: dict[str, bytes]
    url: str = ""
    ranges: bool = True             # whether it knows Range
    cuts: list[int] = field(default_factory=list)    # bytes after which each of the first answers is cut off
    length: int | None = None       # claimed instead of the true one
    says_length: bool = True
    status: list[int] = field(default_factory=list)  # of the first answers, instead of the file
    pause: float = 0.0              # seconds between chunks
    shifted: int = 0                # how far a partial answer begins from where it was asked to
    asked: list[str | None] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.headers.get("Range"))
        name = request.path.rpartition("/")[2]
        if self.status:
            request.send_error(self.status.pop(0))
            return
        if name not in self.files:
            request.send_error(404)
            return
        body, start = self.files[name], 0
        if self.ranges and request.headers.get("Range"):
            start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(body)}")
                request.end_headers()
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start + self.shifted}-{len(body) - 1}/{self.length or len(body)}")
        else:
            request.send_response(200)
        rest = body[start:]
        if self.says_length:
            request.send_header("Content-Length", str(len(rest) if self.length is None else self.length - start))
        request.end_headers()
        self._send(request, rest[: self.cuts.pop(0)] if self.cuts else rest)

    def _send(self, request: BaseHTTPRequestHandler, rest: bytes) -> None:
        for a in range(0, len(rest), 100_000):
            request.wfile.write(rest[a : a + 100_000])
            time.sleep(self.pause)


@pytest.fixture
def site(monkeypatch):
    """Return a running server with one file, /big.bin."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloading, "PAUSE", 0.0)
    served = Site({"big.bin": CONTENT})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                served.answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True   # the other side was killed, or had enough

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def big(site, size=3_000_000):
    return Remote(f"{site.url}/big.bin", size, (DIGEST,))


# --- a file -------------------------------------------------------------------------------------------------------------

def test_a_file_arrives_whole_and_is_not_asked_for_again(site, tmp_path):
    told = []
    download(big(site), tmp_path / "x", lambda *now: told.append(now))
    download(big(site), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert told[-1] == ("big.bin", 3_000_000, 3_000_000)
    assert site.asked == [None]
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


def test_a_cut_connection_goes_on_where_it_ended(site, tmp_path):
    site.cuts = [1_000_000, 500_000]
    download(big(site), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert site.asked == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_later_call_goes_on_with_the_part_that_is_there(site, tmp_path):
    (tmp_path / "x.part").write_bytes(CONTENT[:2_000_000])
    download(big(site), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert site.asked == ["bytes=2000000-"]


def test_a_server_without_range_begins_again(site, tmp_path):
    site.ranges, site.cuts = False, [2_500_000]
    download(big(site), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), None], ids=["known size", "any size"])
def test_a_part_that_is_whole_is_only_looked_at(site, tmp_path, size):
    (tmp_path / "x.part").write_bytes(CONTENT)
    download(big(site, size), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert site.asked == ([] if size else ["bytes=3000000-"])


def test_a_part_longer_than_the_file_is_thrown_away(site, tmp_path):
    (tmp_path / "x.part").write_bytes(CONTENT + b"more")
    with pytest.raises(InputError, match="is longer than the file there"):
        download(big(site), tmp_path / "x")
    download(big(site), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_server_that_says_no_length_is_believed_by_the_digest(site, tmp_path):
    site.says_length = False
    download(big(site, None), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_busy_server_is_waited_for_once_something_came(site, tmp_path):
    site.cuts = [1_000_000]
    first = site.answer
    site.answer = lambda request: (first(request), site.status.extend([503, 503]) if len(site.asked) == 1 else None)
    download(big(site), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert len(site.asked) == 4


def without(site, **change):
    for name, value in change.items():
        setattr(site, name, value)


@pytest.mark.parametrize(("spoil", "says"), [
    pytest.param({"files": {}}, "404 Not Found; --url takes a mirror", id="no such file"),
    pytest.param({"status": [403]}, "403 Forbidden; --url takes a mirror", id="forbidden"),
    pytest.param({"status": [503]}, "503 Service Unavailable", id="busy at once"),
    pytest.param({"files": {"big.bin": b"<html>gone</html>"}}, "has 17 bytes, not 3,000,000: another file, or an error page", id="an error page"),
    pytest.param({"files": {"big.bin": bytes(3_000_000)}}, "has the sha256 ", id="another content"),
    pytest.param({"length": 4_000_000}, "has 4,000,000 bytes, not 3,000,000", id="a length that is too large"),
    pytest.param({"length": 2_000_000}, "has 2,000,000 bytes, not 3,000,000", id="a length that is too small"),
    pytest.param({"cuts": [1_000_000] * 99, "ranges": False}, "the connection ended after 1,000,000 of 3,000,000 bytes; 1,000,000 bytes are kept", id="always cut at the same byte"),
    pytest.param({"cuts": [1_000_000], "shifted": 7}, "was asked for bytes from 1,000,000 and answered with others", id="other bytes than asked for"),
    pytest.param({"files": {"big.bin": CONTENT + b"x"}, "says_length": False}, "sends more than 3,000,000 bytes", id="more than it should be"),
])
def test_what_goes_wrong_is_told_in_one_line(site, tmp_path, spoil, says):
    without(site, **spoil)
    with pytest.raises(InputError) as told:
        download(big(site), tmp_path / "x")
    assert says in str(told.value)
    assert str(told.value).startswith(site.url)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "x").exists()


def test_a_length_said_too_large_is_harmless_and_one_too_small_is_found_out(site, tmp_path):
    site.length = 4_000_000
    download(big(site, None), tmp_path / "x")    # the second request says that there is no more, the digest that all is there
    site.length = 2_000_000
    with pytest.raises(InputError, match="has the sha256"):
        download(big(site, None), tmp_path / "y")
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


@pytest.mark.parametrize(("url", "says"), [
    pytest.param("http://127.0.0.1:9/x", "Connection refused", id="nobody listens"),
    pytest.param("http://no.such.host.invalid/x", "http://no.such.host.invalid/x: ", id="no such host"),
    pytest.param("file:///etc/passwd", "is no http or https address", id="a file"),
    pytest.param("http://127.0.0.1:port/x", "is no address", id="no port"),
    pytest.param("http://127.0.0.1:9/a b\x01", "is no address", id="control characters"),
    pytest.param("http://[::1/x", "is no address", id="half a bracket"),
    pytest.param("", "is no http or https address", id="nothing"),
])
def test_an_address_that_serves_nothing_is_told_at_once(tmp_path, monkeypatch, url, says):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(InputError) as told:
        download(Remote(url, 5, ("0",)), tmp_path / "x")
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_a_full_disk_is_one_line(site):
    with pytest.raises(InputError, match=r"/dev/full.*cannot be written"):
        download(big(site), Path("/dev/full/x"))


def test_a_disk_that_fills_while_downloading_is_one_line_and_keeps_the_part(site, tmp_path, monkeypatch):
    code = f"""
import resource, signal, sys
from pathlib import Path
from search.data.download import Remote, download
from search.errors import InputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))   # the nearest to a full disk that needs no disk
try:
    download(Remote({site.url + "/big.bin"!r}, 3_000_000, ({DIGEST!r},)), Path({str(tmp_path / "x")!r}))
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{tmp_path}/x.part: cannot be written: File too large"
    download(big(site), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_killed_download_goes_on_where_it_was(site, tmp_path):
    site.pause = 0.02
    code = f"from pathlib import Path; from search.data.download import *; download(Remote({site.url + '/big.bin'!r}, 3_000_000, ({DIGEST!r},)), Path({str(tmp_path / 'x')!r}))"
    process = subprocess.Popen([sys.executable, "-c", code])
    part = tmp_path / "x.part"
    while process.poll() is None and (not part.exists() or part.stat().st_size < 500_000):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    site.pause = 0.0
    kept = part.stat().st_size
    download(big(site), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert site.asked == [None, f"bytes={kept}-"]
    assert kept >= 500_000


# --- a data set -----------------------------------------------------------------------------------------------------------

def packed(entries, mode="w:gz"):
    """Return a tar file of names and contents; a TarInfo stands for itself."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode=mode) as tar:
        for name, content in entries.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return held.getvalue()


BIRDS = packed({"attributes.txt": b"not kept", "birds/images.txt": b"1 a.png\n", "birds/images/a.png": b"picture"})


def source_of(**archives):
    return Source(
        "Birds", "http://authors.invalid/",
        tuple(Archive(f"{name}.tgz", len(content), hashlib.sha256(content).hexdigest()) for name, content in archives.items()),
        "birds_2011", "birds.yaml", "birds",
    )


def test_a_data_set_is_downloaded_unpacked_and_left_alone_afterwards(site, tmp_path):
    site.files = {"b.tgz": BIRDS}
    for _ in range(2):
        assert fetch(source_of(b=BIRDS), tmp_path, url=site.url) == tmp_path / "birds_2011"
    assert (tmp_path / "birds_2011" / "images" / "a.png").read_bytes() == b"picture"
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == ["birds_2011"]
    assert len(site.asked) == 1


@pytest.mark.parametrize("url", ["", "/", "/deep/", "/b.tgz"])
def test_a_mirror_is_given_by_its_folder_or_by_the_archive(site, tmp_path, url):
    site.files = {"b.tgz": BIRDS}
    assert fetch(source_of(b=BIRDS), tmp_path, url=site.url + url).is_dir()


def test_two_archives_become_one_folder(site, tmp_path):
    lists = packed({"birds/train_list.mat": b"x"}, "w")
    site.files = {"images.tgz": BIRDS, "lists.tgz": lists}
    root = fetch(source_of(images=BIRDS, lists=lists), tmp_path, url=site.url)
    assert sorted(p.name for p in root.iterdir()) == ["images", "images.txt", "train_list.mat"]


def test_what_a_killed_unpacking_left_is_not_in_the_data_set(site, tmp_path):
    site.files = {"b.tgz": BIRDS}
    (tmp_path / "birds_2011.part" / "birds").mkdir(parents=True)
    (tmp_path / "birds_2011.part" / "birds" / "half.png").write_bytes(b"ha")
    root = fetch(source_of(b=BIRDS), tmp_path, url=site.url)
    assert not (root / "half.png").exists()


def test_another_packing_needs_its_digest_to_be_accepted(site, tmp_path):
    other = packed({"birds/images.txt": b"1 a.png\n"})
    site.files = {"b.tgz": other}
    with pytest.raises(InputError, match="another file, or an error page"):
        fetch(source_of(b=BIRDS), tmp_path, url=site.url)
    digest = hashlib.sha256(other).hexdigest()
    assert fetch(source_of(b=BIRDS), tmp_path, url=site.url, accepted=[digest]).is_dir()


def test_one_process_fetches_at_a_time(tmp_path):
    with FileLock(tmp_path / ".birds_2011.lock"), pytest.raises(InputError, match="another process is fetching Birds"):
        fetch(source_of(b=BIRDS), tmp_path)


def test_a_disk_too_small_is_told_before_the_download(tmp_path, site, monkeypatch):
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100_000_000}))
    with pytest.raises(InputError, match=r"Stanford Dogs needs 1.7 GB and 0.1 GB are free"):
        fetch(SOURCES["dogs"], tmp_path, url=site.url)
    assert site.asked == []


def link(kind, name, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(("content", "says"), [
    pytest.param(packed({"../out.txt": b"x"}), "holds '../out.txt', which would be unpacked elsewhere", id="above"),
    pytest.param(packed({"a/../../out.txt": b"x"}), "which would be unpacked elsewhere", id="above by a detour"),
    pytest.param(packed({"l": link(tarfile.SYMTYPE, "l", "/etc")}), "holds 'l', which is neither a file nor a folder", id="a link"),
    pytest.param(packed({"l": link(tarfile.LNKTYPE, "l", "../x")}), "which is neither a file nor a folder", id="a hard link"),
    pytest.param(packed({"d": link(tarfile.CHRTYPE, "d", "")}), "which is neither a file nor a folder", id="a device"),
    pytest.param(BIRDS[:100], "is damaged, or no tar file", id="cut short"),
    pytest.param(b"hello", "is damaged, or no tar file", id="no archive"),
    pytest.param(b"", "is damaged, or no tar file", id="empty"),
    pytest.param(packed({"birds/images.txt": b"x" * 3000}, "w")[:2000], "is damaged, or no tar file", id="a tar cut short"),
])
def test_an_archive_that_is_harmful_or_damaged_is_refused(tmp_path, content, says):
    (tmp_path / "a.tgz").write_bytes(content)
    with pytest.raises(InputError) as told:
        unpack(tmp_path / "a.tgz", tmp_path / "to")
    assert says in str(told.value)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out.txt").exists()


def test_an_absolute_name_stays_within(tmp_path):
    (tmp_path / "a.tgz").write_bytes(packed({"/etc/fgsearch-test": b"x"}))
    unpack(tmp_path / "a.tgz", tmp_path / "to")
    assert (tmp_path / "to" / "etc" / "fgsearch-test").exists()
    assert not Path("/etc/fgsearch-test").exists()


@pytest.mark.parametrize("limit", ["MOST_FILES", "MOST_UNPACKED"])
def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(fetching, limit, 1)
    (tmp_path / "a.tgz").write_bytes(BIRDS)
    with pytest.raises(InputError, match="unpacks to more than"):
        unpack(tmp_path / "a.tgz", tmp_path / "to")


def test_an_archive_without_the_data_sets_folder_is_refused(site, tmp_path):
    other = packed({"x/y.txt": b"1"})
    site.files = {"b.tgz": other}
    with pytest.raises(InputError, match="holds no birds/"):
        fetch(source_of(b=other), tmp_path, url=site.url)
    assert not (tmp_path / "birds_2011").exists()


def test_the_published_archives_are_named_in_full():
    assert SOURCES["cub"].size == 1_150_585_339
    for source in SOURCES.values():
        assert all(len(archive.sha256) == 64 for archive in source.archives)
