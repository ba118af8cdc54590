"""A stand-in for the Hugging Face Hub, on this machine only: repositories of models, without xet.

It answers the requests that huggingface_hub sends to create a repository or a branch, to upload a folder (regular
files and files of Git LFS), to list the files of a revision and to download them.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.http_server import QuietHandler, running

TOKEN = "hf_of_the_tests"
Files = dict[str, "File"]


class Refusal(Exception):
    """An answer other than 200.

    ``code`` is the one from which huggingface_hub makes an exception. ``more`` are other values of the answer.
    """

    def __init__(self, status: int, message: str, code: str = "", **more: str) -> None:
        super().__init__(message)
        self.status, self.code, self.more = status, code, more


@dataclass(frozen=True)
class File:
    """The content of a file, and whether it is stored by Git LFS."""

    content: bytes
    lfs: bool

    @property
    def oid(self) -> str:
        """The hash by which huggingface_hub identifies the content."""
        if self.lfs:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass
class Repository:
    """The commits of a model.

    Attributes:
        commits: The files of each commit.
        messages: The messages of the commits, in order.
        branches: The commit of each branch and pull request.
    """

    commits: dict[str, Files] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, message: str, files: Files) -> str:
        """Stores files and returns the hash of the commit."""
        self.messages.append(message)
        listing = "".join(f"{name} {files[name].oid}\n" for name in sorted(files))
        revision = hashlib.sha1(f"{len(self.messages)} {message}\n{listing}".encode()).hexdigest()
        self.commits[revision] = files
        return revision

    def resolve(self, name: str) -> str:
        """Returns the commit of a branch, a pull request or a hash."""
        revision = self.branches.get(name, name)
        if revision not in self.commits:
            raise Refusal(404, f"no revision {name}", "RevisionNotFound")
        return revision


class Hub:
    """The repositories of a stand-in and the objects that were uploaded, which tests read.

    Attributes:
        url: The address, for the variable ``HF_ENDPOINT``.
        repositories: The repositories by their ids, ``"owner/name"``.
        objects: The contents of Git LFS by their sha256.
        downloads: The paths that were downloaded, such as ``"owner/name/config.json"``.
        lfs: The endings of files that are stored by Git LFS.
    """

    def __init__(self) -> None:
        self.url = ""
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.downloads: list[str] = []
        self.lfs: tuple[str, ...] = (".safetensors",)

    def repository(self, name: str) -> Repository:
        """Returns a repository."""
        if name not in self.repositories:
            raise Refusal(404, f"no repository {name}", "RepoNotFound")
        return self.repositories[name]

    def create(self, body: dict) -> dict:
        """Creates a repository with an empty commit, as the Hub does."""
        name = f"{body['organization']}/{body['name']}"
        if name in self.repositories:
            raise Refusal(409, "this repository exists already", url=f"{self.url}/{name}")
        repository = self.repositories[name] = Repository()
        repository.branches["main"] = repository.commit(
            "initial commit", {".gitattributes": File(b"*.safetensors filter=lfs\n", lfs=False)}
        )
        return {"url": f"{self.url}/{name}", "id": name}

    def create_branch(self, body: dict, name: str, branch: str) -> dict:
        """Creates a branch that starts at another one."""
        repository = self.repository(name)
        if branch in repository.branches:
            raise Refusal(409, "this branch exists already")
        repository.branches[branch] = repository.resolve(body.get("startingPoint", "main"))
        return {}

    def info(self, body: dict, name: str, revision: str = "main") -> dict:
        """Returns the commit of a revision and the names of its files."""
        repository = self.repository(name)
        commit = repository.resolve(revision)
        return {
            "id": name, "modelId": name, "sha": commit, "private": False, "tags": [], "downloads": 0, "likes": 0,
            "siblings": [{"rfilename": path} for path in repository.commits[commit]],
        }  # fmt: skip

    def tree(self, body: dict, name: str, revision: str) -> list[dict]:
        """Returns the files of a revision."""
        repository = self.repository(name)
        files = repository.commits[repository.resolve(revision)]
        entries = []
        for path, file in files.items():
            entry = {"type": "file", "path": path, "size": len(file.content), "oid": file.oid}
            lfs = {"oid": file.oid, "size": len(file.content), "pointerSize": 134}
            entries.append(entry | {"lfs": lfs} if file.lfs else entry)
        return entries

    def preupload(self, body: dict, name: str, revision: str) -> dict:
        """Returns how each file is to be uploaded."""
        repository = self.repository(name)
        old = repository.commits[repository.resolve(revision)]
        return {
            "files": [
                {
                    "path": path,
                    "uploadMode": "lfs" if path.endswith(self.lfs) else "regular",
                    "shouldIgnore": False,
                    "oid": old[path].oid if path in old else None,
                }
                for path in (file["path"] for file in body["files"])
            ]
        }

    def batch(self, body: dict, name: str) -> dict:
        """Returns where to upload each object of Git LFS; those that are here already need no upload."""
        self.repository(name)
        answers = []
        for described in body["objects"]:
            action = {"upload": {"href": f"{self.url}/objects/{described['oid']}"}}
            answers.append(described if described["oid"] in self.objects else described | {"actions": action})
        return {"transfer": "basic", "objects": answers}

    def upload(self, content: bytes, oid: str) -> dict:
        """Stores an object of Git LFS."""
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refusal(422, "the content has another sha256")
        self.objects[oid] = content
        return {}

    def commit(self, lines: list[dict], name: str, revision: str, create_pr: bool) -> dict:
        """Adds a commit to a branch, or to a new pull request."""
        repository = self.repository(name)
        files = dict(repository.commits[repository.resolve(revision)])
        message = ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), lfs=False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.objects:
                    raise Refusal(422, f"no object {value['oid']}")
                files[value["path"]] = File(self.objects[value["oid"]], lfs=True)
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            else:
                raise Refusal(400, f"unknown operation {line['key']}")
        number = sum(branch.startswith("refs/pr/") for branch in repository.branches) + 1
        branch = f"refs/pr/{number}" if create_pr else revision
        oid = repository.branches[branch] = repository.commit(message, files)
        answer = {"success": True, "commitOid": oid, "commitUrl": f"{self.url}/{name}/commit/{oid}"}
        return answer | ({"pullRequestUrl": f"{self.url}/{name}/discussions/{number}"} if create_pr else {})

    def download(self, name: str, revision: str, path: str) -> tuple[str, File]:
        """Returns the commit of a revision and one of its files."""
        repository = self.repository(name)
        commit = repository.resolve(revision)
        if path not in repository.commits[commit]:
            raise Refusal(404, f"no file {path}", "EntryNotFound")
        return commit, repository.commits[commit][path]


_NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
_MODEL = rf"/api/models/{_NAME}"
_REVISION = r"(?P<revision>[^/]+)"
_ROUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("POST", "/api/repos/create"): Hub.create,
    ("POST", rf"{_MODEL}/branch/(?P<branch>[^/]+)"): Hub.create_branch,
    ("GET", _MODEL): Hub.info,
    ("GET", rf"{_MODEL}/revision/{_REVISION}"): Hub.info,
    ("GET", rf"{_MODEL}/tree/{_REVISION}"): Hub.tree,
    ("POST", rf"{_MODEL}/preupload/{_REVISION}"): Hub.preupload,
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch"): Hub.batch,
    ("POST", "/api/validate-yaml"): lambda hub, body: {"errors": [], "warnings": []},
}


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Runs a stand-in in a thread."""
    hub = Hub()

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            self.respond()

        do_GET = do_HEAD = do_PUT = do_POST

        def respond(self) -> None:
            body, url = self.body(), urlsplit(self.path)
            try:
                if self.command == "POST" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    raise Refusal(401, "Invalid username or password.")
                if match := re.fullmatch(rf"/{_NAME}/resolve/{_REVISION}/(?P<path>.+)", url.path):
                    return self.send_file(*map(unquote, match.groups()))
                answer = self.route(body, url.path, "create_pr=1" in url.query)
            except Refusal as refusal:
                error = json.dumps({"error": str(refusal), **refusal.more}).encode()
                return self.answer(
                    refusal.status, error, X_Error_Code=refusal.code, X_Error_Message=str(refusal)
                )
            return self.answer(200, json.dumps(answer).encode(), Content_Type="application/json")

        def route(self, body: bytes, path: str, create_pr: bool) -> object:
            if match := re.fullmatch(r"/objects/(\w+)", path):
                return hub.upload(body, match[1])
            if match := re.fullmatch(rf"{_MODEL}/commit/{_REVISION}", path):
                lines = [json.loads(line) for line in body.splitlines()]
                return hub.commit(lines, *map(unquote, match.groups()), create_pr)
            for (method, pattern), function in _ROUTES.items():
                match = re.fullmatch(pattern, path)
                if method == self.command and match:
                    values = {name: unquote(value) for name, value in match.groupdict().items()}
                    return function(hub, json.loads(body or "{}"), **values)
            raise Refusal(404, f"no such path: {self.command} {path}")

        def send_file(self, name: str, revision: str, path: str) -> None:
            commit, file = hub.download(name, revision, path)
            if self.command == "GET":
                hub.downloads.append(f"{name}/{path}")
            self.answer(200, file.content, ETag=f'"{file.oid}"', X_Repo_Commit=commit)

    with running(Handler) as hub.url:
        yield hub
