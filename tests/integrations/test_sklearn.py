"""The transformer of scikit-learn: its contract, scikit-learn's own checks, pipelines and data frames."""

import pickle

import numpy as np
import pytest

from tests.support.models import make_cse

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import validate_data

from sentenc.downstream import SentenceClassifier
from sentenc.integrations.sklearn import SentenceVectorizer
from tests.downstream.test_sklearn_contract import Numbers
from tests.support.labeled import labeled
from tests.support.pairs import make_pair

TEXTS, LABELS = map(list, zip(*labeled(), strict=True))


@pytest.fixture(scope="module")
def encoder():
    return make_cse("int8").compressed()


@pytest.fixture
def frame():
    pandas = pytest.importorskip("pandas")
    values = {"title": TEXTS[:6], "body": TEXTS[6:12], "kind": ["a", "b"] * 3}
    return pandas.DataFrame(values, index=[9, 3, 7, 1, 0, 4])


def test_vectors_are_those_of_the_encoder(encoder):
    vectorizer = SentenceVectorizer(encoder)
    vectors = vectorizer.fit_transform(TEXTS)
    np.testing.assert_array_equal(vectors, encoder.encode(TEXTS))
    assert vectorizer.encoder_ is encoder
    for texts in (np.array(TEXTS), tuple(TEXTS), np.array(TEXTS, object)[:, None]):
        np.testing.assert_array_equal(SentenceVectorizer(encoder).fit_transform(texts), vectors)
    options = {"normalize_embeddings": True, "truncate_dim": 5, "dtype": "float16"}
    np.testing.assert_array_equal(
        SentenceVectorizer(encoder, **options).fit_transform(TEXTS), encoder.encode(TEXTS, **options)
    )
    assert SentenceVectorizer(encoder).fit(TEXTS).transform([]).shape == (0, encoder.dim)


def test_similarity_dim_leaves_features_for_classifiers_out():
    encoder = make_cse("int8", combine="both", average_dim=6)
    assert encoder.similarity_dim < encoder.dim
    vectors = SentenceVectorizer(encoder, truncate_dim="similarity").fit_transform(TEXTS)
    np.testing.assert_array_equal(vectors, encoder.encode(TEXTS, truncate_dim=encoder.similarity_dim))


def test_roles_and_prompts():
    pair = make_pair()
    for role, encode in (("query", pair.encode_query), ("document", pair.encode_document)):
        vectors = SentenceVectorizer(pair, role=role).fit_transform(TEXTS)
        np.testing.assert_array_equal(vectors, encode(TEXTS))
    with pytest.raises(ValueError, match="role is 'answer'"):
        SentenceVectorizer(pair, role="answer").fit(TEXTS)
    with pytest.raises(ValueError, match="expected one of them"):
        SentenceVectorizer(pair, role="query", prompt_name="query").fit(TEXTS)
    with pytest.raises(ValueError, match="prompt_name is 'clustering'"):
        SentenceVectorizer(make_cse(), prompt_name="clustering").fit(TEXTS)


def test_bad_input_is_named(encoder):
    vectorizer = SentenceVectorizer(encoder)
    with pytest.raises(NotFittedError):
        vectorizer.transform(TEXTS)
    with pytest.raises(NotFittedError):
        vectorizer.get_feature_names_out()
    with pytest.raises(TypeError, match=r"texts\[1\] is NoneType"):
        vectorizer.fit(["a", None])
    with pytest.raises(TypeError, match="texts is a str"):
        vectorizer.fit("a text")
    with pytest.raises(ValueError, match="truncate_dim"):
        SentenceVectorizer(encoder, truncate_dim=encoder.dim + 1).fit(TEXTS)


def test_columns_of_a_frame_are_put_next_to_each_other(encoder, frame):
    vectorizer = SentenceVectorizer(encoder, truncate_dim=2).fit(frame[["title", "body"]])
    vectors = vectorizer.transform(frame[["title", "body"]])
    np.testing.assert_array_equal(vectors[:, :2], encoder.encode(frame["title"], truncate_dim=2))
    np.testing.assert_array_equal(vectors[:, 2:], encoder.encode(frame["body"], truncate_dim=2))
    names = ["title_0", "title_1", "body_0", "body_1"]
    assert vectorizer.get_feature_names_out().tolist() == names
    assert vectorizer.get_feature_names_out(["title", "body"]).tolist() == names
    with pytest.raises(ValueError, match="input_features"):
        vectorizer.get_feature_names_out(["title", "text"])
    with pytest.raises(ValueError, match="feature names"):
        vectorizer.transform(frame[["body", "title"]])
    with pytest.raises(ValueError, match="expected 2 columns"):
        vectorizer.transform(frame["title"])
    with pytest.raises(ValueError, match="single column"):
        SentenceVectorizer(encoder).fit(TEXTS).transform(frame[["title"]])
    frame.loc[7, "body"] = float("nan")
    with pytest.raises(TypeError, match=r"column 'body': texts\[2\] is float"):
        vectorizer.transform(frame[["title", "body"]])
    unnamed = SentenceVectorizer(encoder, truncate_dim=2).fit(frame[["title", "kind"]].to_numpy())
    assert unnamed.get_feature_names_out().tolist() == ["x0_0", "x0_1", "x1_0", "x1_1"]
    with pytest.raises(ValueError, match="input_features should have length equal"):
        unnamed.get_feature_names_out(["a"])


@pytest.mark.parametrize("column", ["title", ["title"]])
def test_column_transformer_with_pandas_output(encoder, frame, column):
    columns = [
        ("text", SentenceVectorizer(encoder, truncate_dim=3), column),
        ("kind", OneHotEncoder(sparse_output=False), ["kind"]),
    ]
    transformer = ColumnTransformer(columns).set_output(transform="pandas")
    output = transformer.fit_transform(frame)
    assert output.index.tolist() == frame.index.tolist()
    assert output.columns.tolist() == transformer.get_feature_names_out().tolist()
    prefix = "text__sentencevectorizer" if column == "title" else "text__title_"
    assert output.columns.tolist()[:3] == [f"{prefix}{i}" for i in range(3)]
    np.testing.assert_array_equal(output.iloc[:, :3], encoder.encode(frame["title"], truncate_dim=3))


def test_grid_search_of_a_pipeline(encoder):
    pipeline = make_pipeline(SentenceVectorizer(encoder), StandardScaler(), SentenceClassifierOfVectors())
    grid = {"sentencevectorizer__truncate_dim": [2, None]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(TEXTS, LABELS)
    assert search.best_params_ == {"sentencevectorizer__truncate_dim": None}
    assert search.best_estimator_[0].encoder_ is encoder


def SentenceClassifierOfVectors():
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression()


def test_clones_share_the_encoder_and_pickles_contain_it(encoder):
    vectorizer = SentenceVectorizer(encoder, truncate_dim=4).fit(TEXTS)
    twin = clone(vectorizer)
    assert twin.model is encoder
    assert not hasattr(twin, "encoder_")
    again = pickle.loads(pickle.dumps(vectorizer))
    np.testing.assert_array_equal(again.transform(TEXTS), vectorizer.transform(TEXTS))
    assert "truncate_dim=4" in repr(vectorizer)


class VectorizerOfNumbers(SentenceVectorizer):
    """Converts the matrices of scikit-learn's checks to texts of numbers."""

    def _read(self, X, *, reset):
        X = validate_data(self, X, reset=reset)
        return [[" ".join(map(repr, row.tolist())) for row in X]]

    def get_feature_names_out(self, input_features=None):
        """The checks pass the names of numbers, which are here no columns of texts."""
        names = getattr(self, "feature_names_in_", None)
        if input_features is not None and names is not None and list(input_features) != list(names):
            raise ValueError("input_features is not equal to feature_names_in_")
        if input_features is not None and len(input_features) != self.n_features_in_:
            raise ValueError("input_features should have length equal to number of features")
        return np.array([f"sentencevectorizer{i}" for i in range(self._n_features_out)], object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string, tags.no_validation = True, False, False
        return tags


# Checks that are expected to fail, with the reasons.
EXPECTED_FAILURES = {
    "check_methods_subset_invariance": "vectors are float32: 2e-7 apart, and 1e-7 is asked",
    "check_transformer_preserve_dtypes": "texts have no dtype that vectors could have; the option dtype sets it",
}


def test_scikit_learns_own_checks():
    results = check_estimator(
        VectorizerOfNumbers(Numbers()), expected_failed_checks=EXPECTED_FAILURES, on_skip=None, on_fail=None
    )
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed
    assert {r["check_name"] for r in results if r["status"] == "xfail"} <= set(EXPECTED_FAILURES)
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= {"check_array_api_input"}
    assert sum(r["status"] == "passed" for r in results) >= 40


def test_checks_of_texts(encoder):
    # A transformer of texts is given no matrix, so scikit-learn runs only the checks that need no data.
    vectorizer = SentenceVectorizer(encoder)
    tags = get_tags(vectorizer)
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    with pytest.warns(SkipTestWarning, match="Can't test estimator"):
        check_estimator(vectorizer, on_skip=None)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_column_of_labels_is_one_class_for_each_text(encoder, shape, recwarn):
    labels = np.array(LABELS).reshape(shape)
    classifier = SentenceClassifier(encoder, C=4.0).fit(TEXTS, labels)
    assert not classifier.multi_label_
    assert classifier.predict(TEXTS).shape == (len(TEXTS),)
    assert classifier.score(TEXTS, labels) == classifier.score(TEXTS, LABELS)
    assert all("column-vector y" in str(warning.message) for warning in recwarn)
    assert len(recwarn) == (2 if len(shape) == 2 else 0)


def test_texts_that_can_be_read_only_once_are_refused(encoder):
    with pytest.raises(TypeError, match="generator"):
        SentenceVectorizer(encoder).fit_transform(text for text in TEXTS)
