"""Options of other Whisper commands that this one does not have, and what to tell users who give them.

They come from openai/whisper, whisper-ctranslate2 and WhisperX. None is silently ignored: it is refused,
unless its value asks for what is done anyway.
"""

from typing import NamedTuple


class Other(NamedTuple):
    """How an option is answered."""

    hint: str  # what to do instead, after "--option: "
    done: tuple[str, ...] = ()  # values that are accepted, as they ask for what is done anyway


BEAM = "beam search is not supported yet; leave it out"
SPEAKERS = "speaker diarization is not supported yet; leave it out"
WORDS = "words are aligned by Whisper itself; leave it out, and add --word_timestamps True"
PRECISION = "the precision is set by the state file (state.py bake --dtype); leave it out"
BAKED = "models are part of the image, in the folder given by --home; leave it out"
PUNCTUATION = "punctuation is joined to words as openai/whisper does by default; leave it out"
VOICE = "speech detection is set by --vad_threshold and --vad_min_silence_duration_ms; leave it out"
LIVE = "live audio is not supported; record to a file first"
SAMPLING = "repetition control is not supported yet; leave it out"

OTHERS = {  # by their names
    # Decoding
    "--beam_size": Other(BEAM, ("1", "None")),
    "--patience": Other(BEAM),
    "--length_penalty": Other(BEAM),
    "--suppress_tokens": Other("the suppressed tokens are set by the checkpoint; leave it out", ("-1",)),
    "--suppress_blank": Other("blanks are always suppressed; leave it out", ("True",)),
    "--suppress_numerals": Other("suppressing numerals is not supported yet; leave it out"),
    "--repetition_penalty": Other(SAMPLING, ("1", "1.0")),
    "--no_repeat_ngram_size": Other(SAMPLING, ("0",)),
    "--carry_initial_prompt": Other(
        "--initial_prompt is given to every window, except with --sequential; leave it out"
    ),
    "--prompt_reset_on_temperature": Other(
        "the prompt is always reset above temperature 0.5; leave it out", ("0.5",)
    ),
    "--prefix": Other("a prefix is not supported yet; use --initial_prompt for names and style"),
    "--hotwords": Other("hotwords are not supported yet; put them into --initial_prompt"),
    "--clip_timestamps": Other("recordings are transcribed whole; cut them first", ("0",)),
    "--hallucination_silence_threshold": Other("silence is skipped before decoding; leave it out", ("None",)),
    "--fp16": Other(PRECISION),
    "--compute_type": Other(PRECISION, ("auto", "default")),
    "--device_index": Other("the GPU is chosen by CUDA_VISIBLE_DEVICES; leave it out", ("0",)),
    # Speech and silence
    "--multilingual": Other("one language is detected per recording; leave it out", ("False",)),
    "--vad_filter": Other("silence is always skipped, except with --sequential; leave it out", ("True",)),
    "--vad_method": Other("speech is detected by silero-vad; leave it out", ("silero",)),
    "--vad_onset": Other(VOICE),
    "--vad_offset": Other(VOICE),
    "--vad_min_speech_duration_ms": Other(VOICE),
    "--vad_max_speech_duration_s": Other(VOICE),
    # Words and lines
    "--prepend_punctuations": Other(PUNCTUATION),
    "--append_punctuations": Other(PUNCTUATION),
    "--align_model": Other(WORDS),
    "--interpolate_method": Other(WORDS),
    "--timestamp_sanitize": Other(WORDS),
    "--return_char_alignments": Other(WORDS),
    "--no_align": Other("words are timed only for --word_timestamps, srt and vtt; leave it out"),
    "--segment_resolution": Other("subtitles are cut by --max_line_width and --max_line_count; use these"),
    # Speakers
    "--diarize": Other(SPEAKERS),
    "--diarize_model": Other(SPEAKERS),
    "--min_speakers": Other(SPEAKERS),
    "--max_speakers": Other(SPEAKERS),
    "--speaker_embeddings": Other(SPEAKERS),
    "--speaker_name": Other(SPEAKERS),
    "--speaker_num": Other(SPEAKERS),
    "--hf_token": Other(SPEAKERS),
    # Models, output, and the rest
    "--model_dir": Other(BAKED),
    "--model_directory": Other(BAKED),
    "--local_files_only": Other("nothing is ever downloaded; leave it out", ("True",)),
    "--model_cache_only": Other("nothing is ever downloaded; leave it out", ("True",)),
    "-p --pretty_json": Other("json is on one line; format it with jq . or python3 -m json.tool"),
    "--print_colors": Other("text is not coloured; json has word probabilities with --word_timestamps True"),
    "--log-level": Other("--quiet leaves warnings and errors only", ("info",)),
    "--live_transcribe": Other(LIVE),
    "--live_volume_threshold": Other(LIVE),
    "--live_input_device": Other(LIVE),
    "--live_input_device_sample_rate": Other(LIVE),
    "-P --python-version": Other("image.json says which versions are in the image; leave it out"),
}
