"""An answer that reads alike may mean another thing to who asked for another."""

import pytest

from blobfs.errors import AccessDenied, BlobfsError, Changed, Unreachable
from blobfs.stores.answers import Answer, Call, error_of_answer


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (Answer(412, "PreconditionFailed"), Changed),
        (Answer(412, "ConditionNotMet"), Changed),
        (Answer(412, "LeaseIdMissing"), AccessDenied),
        (Answer(409, "ConditionalRequestConflict"), Unreachable),
        (Answer(500, "InternalError"), Unreachable),
    ],
)
def test_what_answers_to_a_conditional_delete_mean(
    answer: Answer, meaning: type[BlobfsError]
) -> None:
    """An object that somebody locked would be taken for one that is another by now, and kept."""
    call = Call("delete", "az://container", "key", "match")
    assert type(error_of_answer(answer, call)) is meaning
