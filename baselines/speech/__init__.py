"""Speech features in the form of DeepSpeech: a small acoustic encoder, and logits from elsewhere."""
