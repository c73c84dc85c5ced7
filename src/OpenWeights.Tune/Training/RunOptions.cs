namespace OpenWeights.Tune.Training;

/// <summary>How a run is prepared.</summary>
/// <param name="Resume">Whether it will go on from its folder: what the config leaves out is then as it was when the run was started.</param>
/// <param name="RequireMemory">Whether a run that does not fit into what memory there is is refused before its weights are read.</param>
/// <param name="SettingsAlone">Whether the model's settings and tokenizer are enough, and its weights need not be there.</param>
public readonly record struct RunOptions(bool Resume = false, bool RequireMemory = false, bool SettingsAlone = false);
