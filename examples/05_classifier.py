"""Fits a classifier to a CSV file, reports on it, saves it, loads it again, and serves it.

python examples/05_classifier.py [FILE.csv]

The file has the text in its first column and the label in its second.
"""

import csv
import json
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import sentenc
from sentenc import downstream
from sentenc.downstream.report import classification_report
from sentenc.downstream.report_text import to_text

path = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "data" / "messages.csv"
with open(path, encoding="utf-8", newline="") as file:
    rows = [row for row in csv.reader(file) if row][1:]
texts = [row[0] for row in rows]
labels = [row[1] for row in rows]

# Every fifth message is a test example. The file is ordered by label, so every label has some.
train = [i for i in range(len(rows)) if i % 5]
test = [i for i in range(len(rows)) if i % 5 == 0]

classifier = sentenc.SentenceClassifier("cse-en", random_state=1)
classifier.fit([texts[i] for i in train], [labels[i] for i in train])

unseen = [texts[i] for i in test]
report = classification_report(
    [labels[i] for i in test],
    classifier.predict(unseen),
    classifier.predict_proba(unseen),
    classifier.classes_,
    unseen,
)
print(to_text(report))

with tempfile.TemporaryDirectory() as folder:
    classifier.save(Path(folder) / "intents")
    loaded = downstream.load(Path(folder) / "intents")  # one folder: encoder, head, labels; no pickle
assert (loaded.predict(unseen) == classifier.predict(unseen)).all()

message = "the parcel never came and now I want my money"
for label, probability in sorted(
    zip(loaded.classes_, loaded.predict_proba([message])[0], strict=True), key=lambda pair: -pair[1]
)[:3]:
    print(f"{probability:.2f}  {label}")


def ask(url, message):
    """Sends one message to the server and returns its answer."""
    body = json.dumps({"texts": [message], "top_k": 2}).encode()
    request = urllib.request.Request(f"{url}/classify", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


# Runs the server on a free port in a thread. The command is: sentenc serve --classifier FOLDER
if find_spec("uvicorn") and find_spec("starlette"):
    import uvicorn

    from sentenc.serving import create_app

    server = uvicorn.Server(
        uvicorn.Config(create_app({}, classifiers={"intents": loaded}), log_level="warning", ws="none")
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        print(ask(f"http://127.0.0.1:{listener.getsockname()[1]}", message))
        server.should_exit = True
        thread.join()
