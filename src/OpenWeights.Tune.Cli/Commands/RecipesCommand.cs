using System.CommandLine;
using OpenWeights.Formats.Files;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt recipes.</summary>
internal static class RecipesCommand
{
    private static readonly Argument<string> s_name = new("name") { Description = "Name of the recipe.", HelpName = "NAME" };
    private static readonly Option<string?> s_output = new("--output") { Description = "File to write; it must not exist. By default the recipe's name with .yaml, in the current folder.", HelpName = "FILE" };
    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        var list = new Command("list", "Lists the recipes, with the memory that each needs.") { s_json };
        list.SetAction(List);
        var show = new Command("show", "Prints a recipe.") { s_name };
        show.SetAction(static arguments =>
        {
            Console.Out.Write(Recipe.Find(arguments.GetValue(s_name)!).Text);
            return ExitCode.Success;
        });
        var copy = new Command("copy", "Writes a recipe to a file of your own, to change and train.") { s_name, s_output };
        copy.SetAction(Copy);
        return new Command("recipes", "Configs for common models and sizes of memory, which ship with the program.") { list, show, copy };
    }

    private static int List(ParseResult arguments)
    {
        if (arguments.GetValue(s_json))
        {
            JsonLines.Write(new { recipes = Recipe.All.Select(static r => new { name = r.Name, title = r.Title, model = r.Model, memory_gib = r.MemoryGiB }) });
            return ExitCode.Success;
        }

        var width = Recipe.All.Max(static r => r.Name.Length);
        foreach (var recipe in Recipe.All)
        {
            Console.Out.WriteLine($"{recipe.Name.PadRight(width)}  {recipe.MemoryGiB,3} GiB  {recipe.Title}");
        }

        return ExitCode.Success;
    }

    private static int Copy(ParseResult arguments)
    {
        var recipe = Recipe.Find(arguments.GetValue(s_name)!);
        var output = CommonOptions.NewOutput(arguments.GetValue(s_output) ?? $"{recipe.Name}.yaml");
        AtomicFile.WriteText(output, recipe.Text);
        Console.Out.WriteLine($"{recipe.Name} written to {ShownPath.Of(output)}; set data.train to your rows, then run: owt train {ShownPath.Of(output)} --dry-run");
        return ExitCode.Success;
    }
}
