namespace OpenWeights.Tokenizers;

/// <summary>Makes the post-processor from its JSON: a table of types.</summary>
internal static class PostProcessorReader
{
    private static readonly Dictionary<string, Func<JsonSection, PostProcessor>> s_types = new()
    {
        ["Sequence"] = ReadSequence,
        ["TemplateProcessing"] = ReadTemplate,
        ["ByteLevel"] = s => new PostProcessor([null], TrimOf(s)),
        ["BertProcessing"] = s => new PostProcessor([IdOf(s["cls"]), null, IdOf(s["sep"])], null),
        ["RobertaProcessing"] = s => new PostProcessor([IdOf(s["cls"]), null, IdOf(s["sep"])], TrimOf(s)),
    };

    /// <summary>Makes the post-processor.</summary>
    public static PostProcessor Read(JsonSection section)
    {
        if (section.IsNull)
        {
            return PostProcessor.None;
        }

        var type = section["type"].Text();
        return s_types.TryGetValue(type, out var make)
            ? make(section)
            : throw section.Error($"the post-processor \"{type}\" is not supported; these are: {string.Join(", ", s_types.Keys)}.");
    }

    private static PostProcessor ReadSequence(JsonSection section)
    {
        var all = section["processors"].Elements().Select(Read).ToArray();

        // The reference takes what a template adds for a second text, and applies the next template's pair form to it.
        return all.Count(p => p.Pieces.Count != 1) > 1
            ? throw section["processors"].Error("has more than one template that adds tokens, which is not supported.")
            : all.Aggregate(PostProcessor.None, (inner, next) => inner.Then(next));
    }

    /// <summary>The id of a ["token", id] pair.</summary>
    private static int IdOf(JsonSection section) =>
        section.Elements() is [_, var id] ? id.Count() : throw section.Error("must be a token and its id.");

    private static OffsetTrim? TrimOf(JsonSection section) =>
        section["trim_offsets"].Flag() ? new OffsetTrim(section["add_prefix_space"].Flag(true)) : null;

    private static PostProcessor ReadTemplate(JsonSection section)
    {
        var pieces = new List<int?>();
        foreach (var piece in section["single"].Elements())
        {
            if (!piece["Sequence"].IsNull)
            {
                var id = piece["Sequence"]["id"];
                if (id.Text() != "A")
                {
                    throw id.Error("a template for a single text can only have the sequence A.");
                }

                pieces.Add(null);
                continue;
            }

            var name = piece["SpecialToken"]["id"];
            var token = section["special_tokens"][name.Text()];
            if (token.IsNull)
            {
                throw name.Error($"\"{name.Text()}\" is not among the template's special_tokens.");
            }

            pieces.AddRange(token["ids"].Elements().Select(i => (int?)i.Count()));
        }

        return new PostProcessor(pieces, null);
    }
}
