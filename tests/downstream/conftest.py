"""An encoder and a fitted classifier, which several modules of tests share."""

import numpy as np
import pytest

from tests.support.labeled import labeled
from tests.support.models import make_cse


@pytest.fixture(scope="module")
def encoder():
    return make_cse("int8").compressed()


@pytest.fixture(scope="module")
def classifier(encoder):
    # scikit-learn may be missing, and the modules of these tests are then skipped.
    from sentenc.downstream import SentenceClassifier

    texts, labels = map(list, zip(*labeled(), strict=True))
    return SentenceClassifier(encoder, random_state=0, C=np.float64(8)).fit(texts, labels)


@pytest.fixture
def folder(classifier, tmp_path):
    classifier.save(tmp_path / "saved")
    return tmp_path / "saved"
