namespace OpenWeights.Tokenizers.Templates.Spans;

/// <summary>Where a turn of the assistant stands in the text.</summary>
/// <param name="Members">Its messages, from 0: one, or several that the template merged.</param>
/// <param name="Start">Where the turn's text begins.</param>
/// <param name="End">Where it ends.</param>
/// <param name="ContentStart">Where the first of the messages' own text begins; the end if there is none.</param>
/// <param name="ContentEnd">Where the last of it ends; the start if there is none.</param>
/// <param name="IsShared">Whether the turn is a part of what another message's turn wrote.</param>
internal sealed record Region(int[] Members, int Start, int End, int ContentStart, int ContentEnd, bool IsShared);
