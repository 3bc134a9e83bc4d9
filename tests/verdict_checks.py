"""Assertions about verdicts; ``tests/test_verdicts.py`` demands that every claim is made true and false with them."""


def outcome(verdicts, claim):
    """Outcome of a claim among verdicts, and the sentence with its inequality."""
    verdicts = [verdicts] if hasattr(verdicts, "inequalities") else list(verdicts)
    found = [(one.holds, str(each)) for each in verdicts for one in each.inequalities if one.claim == claim]
    assert found, (
        f"expected a verdict of {claim!r}, got {[one.claim for each in verdicts for one in each.inequalities]}"
    )
    return found


def made_true(verdicts, claim):
    """Assert that a claim was checked and holds wherever it was; return its sentence."""
    found = outcome(verdicts, claim)
    assert all(holds is True for holds, _ in found), found
    return found[0][1]


def made_false(verdicts, claim):
    """Assert that a claim was checked and fails somewhere; return its sentence there."""
    found = outcome(verdicts, claim)
    failed = [text for holds, text in found if holds is False]
    assert failed, found
    return failed[0]
