"""What a run keeps of texts: the probe's tokens hold nothing personal that can be told."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tests.support import replaced
from train.run import masked_texts
from twotower.tables import Log


@pytest.mark.parametrize(
    ("said", "kept"), [("my card is 4111 1111 1111 1111", "4111"), ("write to ann.lee@example.org", "ann.lee")]
)
def test_what_is_personal_is_masked_before_it_is_kept(tables, save, said, kept):
    texts = pa.array([said] * 4)
    log = Log.load(save({**tables, "contacts": replaced(tables["contacts"], "transcript", texts)}))
    masked = masked_texts(log, np.array([0, 2]))
    assert len(masked) == 2
    assert all(kept not in text for text in masked)
    assert masked[0].startswith("late order")
