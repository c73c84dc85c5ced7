using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Evaluation.Tasks;

/// <summary>A file of tasks.</summary>
internal sealed record TaskFileSection
{
    /// <summary>The tasks.</summary>
    [Setting("The tasks, in the order in which they are reported.", Required = true)]
    public IReadOnlyList<TaskSection> Tasks { get; init; } = [];
}

/// <summary>A task: questions with known answers, and how they are asked and judged.</summary>
internal sealed record TaskSection
{
    /// <summary>Name of the task.</summary>
    [Setting("Name in the results; by default the file's.")]
    public string? Name { get; init; }

    /// <summary>How the answers are judged.</summary>
    [Setting("How answers are judged: multiple_choice (the likeliest choice), exact_match (a generated text), gsm8k (the number in a generated text), or auto (multiple_choice if the questions have choices, gsm8k if their answers have \"#### \", else exact_match).", OneOf = ["auto", "multiple_choice", "exact_match", "gsm8k"])]
    public string Type { get; init; } = "auto";

    /// <summary>The questions.</summary>
    [Setting("The questions: a data file, folder or glob pattern.", IsPath = true, Required = true)]
    public string Path { get; init; } = "";

    /// <summary>Maximum number of questions.</summary>
    [Setting("Use only this many questions, from the start.", Min = 1)]
    public int? Limit { get; init; }

    /// <summary>The prompt.</summary>
    [Setting("The prompt, in which {name} stands for a field of the question. By default {query}, {prompt} or, of {question}, \"Question: {question}\\nAnswer:\".")]
    public string? Prompt { get; init; }

    /// <summary>The field with the choices.</summary>
    [Setting("Field with the list of choices; dots lead into inner fields, as in choices.text.")]
    public string Choices { get; init; } = "choices";

    /// <summary>The field with the right answer.</summary>
    [Setting("Field with the right answer: of a choice its number from 0, its letter or its text. By default the first of gold, answer, answerKey, label, target, completion and output.")]
    public string? Answer { get; init; }

    /// <summary>Text between the prompt and a choice.</summary>
    [Setting("Text between the prompt and a choice; by default a space, unless there is white space already or a chat template is used.")]
    public string? Delimiter { get; init; }

    /// <summary>Number of solved examples before a question.</summary>
    [Setting("Number of solved examples before each question, the first of shots_path.", Min = 0)]
    public int Shots { get; init; }

    /// <summary>The examples.</summary>
    [Setting("Rows of the solved examples; they must not be the questions themselves.", IsPath = true)]
    public string? ShotsPath { get; init; }

    /// <summary>Whether the model's chat template is used.</summary>
    [Setting("Ask with the model's chat template, the prompt as the user's message. Otherwise the model continues the prompt, as in EleutherAI's harness.")]
    public bool Chat { get; init; }

    /// <summary>Texts that end an answer.</summary>
    [Setting("Texts that end a generated answer. By default a line break for exact_match, and for gsm8k \"Question:\", besides the end tokens.")]
    public IReadOnlyList<string>? Stop { get; init; }

    /// <summary>Maximum length of an answer.</summary>
    [Setting("Maximum length of a generated answer, in tokens.", Min = 1)]
    public int MaxNewTokens { get; init; } = 256;

    /// <summary>Whether case is ignored.</summary>
    [Setting("exact_match: ignore upper and lower case.")]
    public bool IgnoreCase { get; init; }

    /// <summary>Whether punctuation is ignored.</summary>
    [Setting("exact_match: ignore the punctuation of ASCII.")]
    public bool IgnorePunctuation { get; init; }
}
