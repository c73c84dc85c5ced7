using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Models.Weights;

namespace OpenWeights.Tune.Training;

/// <summary>Checks that a teacher has the student's vocabulary.</summary>
internal static class VocabularyCheck
{
    // Vocabularies are filled up to round sizes, and have some special tokens more or less.
    private const double MostMissing = 0.01;

    /// <summary>Throws if teacher and student do not share a vocabulary, with what differs.</summary>
    /// <param name="student">Folder of the student.</param>
    /// <param name="teacher">Folder of the teacher.</param>
    /// <exception cref="InvalidDataException">They do not.</exception>
    internal static void Require(string student, string teacher)
    {
        if (Difference(student, teacher) is { } difference)
        {
            throw new InvalidDataException($"objective.teacher: {teacher} has another vocabulary than the student {student}: {difference}. Distillation compares predictions token by token; choose a teacher of the student's family.");
        }
    }

    private static string? Difference(string student, string teacher)
    {
        if (!Tokenizer.IsIn(student) || !Tokenizer.IsIn(teacher))
        {
            var (ours, theirs) = (Size(student), Size(teacher));
            return ours == theirs ? null : $"it has {theirs} tokens, and the student {ours}, and without the tokenizers of both they cannot be compared";
        }

        var (own, other) = (Tokenizer.Load(student), Tokenizer.Load(teacher));
        var (differing, missing, first, size) = (0, 0, -1, Math.Max(own.VocabularySize, other.VocabularySize));
        for (var id = 0; id < size; id++)
        {
            var (mine, its) = (own.IdToToken(id), other.IdToToken(id));
            if (mine is null != its is null)
            {
                missing++;
            }
            else if (mine != its)
            {
                (differing, first) = (differing + 1, first < 0 ? id : first);
            }
        }

        return differing > 0 ? $"{differing} of {size} tokens differ, the first is token {first}, '{other.IdToToken(first)}' in the teacher and '{own.IdToToken(first)}' in the student"
            : missing > MostMissing * size ? $"{missing} of {size} tokens are in one of them alone"
            : null;
    }

    private static int Size(string folder) => ModelLoader.ReadConfig(ModelFolder.Open(folder)).VocabularySize;
}
