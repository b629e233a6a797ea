"""Ways to cut windows that ``bench.words`` compares. Out: by name, settings of the daemon."""

CUTS = {
    "fixed": {"BUFFER_CUT": "fixed", "ENDPOINT_SILENCE_SECS": "0"},
    "quiet": {"BUFFER_CUT": "quiet", "ENDPOINT_SILENCE_SECS": "0"},
    "quiet_endpoint": {"BUFFER_CUT": "quiet", "ENDPOINT_SILENCE_SECS": "0.5"},
}
CONTEXTS = {"": {"WHISPER_CONTEXT": "off"}, "_context": {"WHISPER_CONTEXT": "prompt"}}
ALONE = {"LEFT_CONTEXT_SECS": "0"}
"""Windows that are transcribed without left context."""

VARIANTS = {f"{cut}{context}": CUTS[cut] | CONTEXTS[context] for context in CONTEXTS for cut in CUTS} | {
    f"{cut}_alone": CUTS[cut] | ALONE for cut in CUTS
}
DEFAULT = "quiet_endpoint"
"""As the daemon is without any setting."""

QUICK_VARIANTS = ("fixed", DEFAULT)

GATES = {name: CUTS["quiet_endpoint"] | {"SPEECH_GATE": on} for name, on in (("gate_on", "1"), ("gate_off", "0"))}
