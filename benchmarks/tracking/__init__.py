"""MLflow: where runs can be looked at and compared. The run folder stays the source of truth.

Everything is sent so that sending again changes nothing, which is what makes resuming and
``resend`` safe: the store itself keeps, as a run tag, how many lines of the journal it has.
No samples and no recording ids are sent.
"""
