"""Speech in any language to English text: a transcription under another path, which only OpenAI's form has."""

from __future__ import annotations

from lilliput.wire.operations.modality import Operation, openai_form
from lilliput.wire.operations.transcription import Body, check, passing

PATH = "/audio/translations"
OPERATION: Operation[Body] = Operation("translation", PATH, check, openai_form(passing(PATH)), form=True)
