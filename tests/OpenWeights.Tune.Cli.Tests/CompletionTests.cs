using System.Diagnostics;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Cli.Completion;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>Lines that are being typed are completed: by the program, and by shells that read its scripts.</summary>
public sealed class CompletionTests
{
    private static readonly string s_program = Path.Combine(AppContext.BaseDirectory, "owt.dll");

    [TestCase("owt tra", "train")]
    [TestCase("owt TRA", "train")]
    [TestCase("owt bench ge", "generate")]
    [TestCase("owt train x.yaml --dr", "--dry-run")]
    [TestCase("owt generate --model m --quantization n", "none", "nf4")]
    [TestCase("owt generate --quantization=i", "--quantization=int8")]
    [TestCase("owt train x.yaml training.learning_r", "training.learning_rate=")]
    [TestCase("owt train x.yaml --resume output_dir=a training.offload=", "training.offload=none", "training.offload=activations", "training.offload=optimizer")]
    [TestCase("owt validate x.yaml data.shuffle=f", "data.shuffle=false")]
    [TestCase("owt train \"my file.yaml\" adapter.vera_drop", "adapter.vera_dropout=")]
    [TestCase("owt completion p", "pwsh")]
    [TestCase("owt train ", new string[0])]
    [TestCase("owt train conf", new string[0])]
    [TestCase("owt nonsense ", new string[0])]
    public void The_last_word_of_a_line_becomes(string line, params string[] words) => Assert.That(Of(line), Is.EquivalentTo(words));

    [Test]
    public void Every_command_and_every_option_is_offered()
    {
        var root = CommandLine.Root();
        Assert.That(Of("owt "), Is.EqualTo(root.Subcommands.Select(static c => c.Name)));
        foreach (var command in root.Subcommands.Where(static c => c.Subcommands.Count == 0))
        {
            Assert.That(Of($"owt {command.Name} --"), Is.SupersetOf(command.Options.Where(static o => !o.Hidden).Select(static o => o.Name)).And.Contain("--help"), command.Name);
        }
    }

    [Test]
    public void Models_of_the_cache_are_offered_where_a_model_is_named()
    {
        using var folder = new TemporaryFolder();
        _ = Directory.CreateDirectory(folder.At("hub", "models--Org--Small"));
        _ = Directory.CreateDirectory(folder.At("hub", "models--Other--Large"));
        foreach (var (line, word) in new[] { ("owt chat --model O", "Org/Small"), ("owt train x.yaml model.path=Oth", "model.path=Other/Large"), ("owt download org/", "Org/Small") })
        {
            var (code, output, _) = Run("dotnet", [s_program, $"[suggest:{line.Length}]", line], ("HF_HOME", folder.Root));
            Assert.That(code, Is.Zero);
            Assert.That(output.Split('\n').Select(static l => l.Split('\t')[0]), Has.Member(word), line);
        }
    }

    [Test]
    public void What_stands_behind_the_cursor_does_not_count()
    {
        var (_, output, _) = Run("dotnet", [s_program, "[suggest:7]", "owt tra --model x"]);
        Assert.That(output, Does.StartWith("train\t"));
    }

    [TestCase("owt tra", "train")]
    [TestCase("owt train x.yaml training.optimizer=adamw_8", "adamw_8bit")]
    [TestCase("owt train x.yaml training.learning_ra", "training.learning_rate=")]
    [TestCase("owt generate --model=a --quantization nf", "nf4")]
    public void Bash_completes(string line, string answer)
    {
        const string Ask = """
            eval "$(owt completion bash)"
            COMP_LINE=$LINE COMP_POINT=${#LINE}
            COMP_WORDS=(owt)
            _owt
            printf '%s\n' "${COMPREPLY[@]}"
            """;
        Assert.That(InShell("bash", ["-c", Ask], line), Is.EqualTo(answer));
    }

    [TestCase("owt tra", "owt train ")]
    [TestCase("owt train x.yaml training.optimizer=adamw_8", "owt train x.yaml training.optimizer=adamw_8bit ")]
    [TestCase("owt train x.yaml training.learning_ra", "owt train x.yaml training.learning_rate=")]
    public void Zsh_completes(string line, string answer)
    {
        // A zsh on a terminal of its own, in which the line and a tab are typed.
        const string Ask = """
            zmodload zsh/zpty
            zpty z zsh -f -i
            zpty -w z 'PS1="" PS2=""; autoload -Uz compinit; compinit -u -D; zstyle ":completion:*" list-prompt ""; eval "$(owt completion zsh)"; show() { print -r -- "<<$BUFFER>>"; zle kill-whole-line }; zle -N show; bindkey "^X" show; print ready-$((1+1))'
            while zpty -r z text; do [[ $text == *ready-2* ]] && break; done
            zpty -w -n z "$LINE"$'\t\x18'
            while zpty -r z text; do [[ $text == *'<<'*'>>'* ]] && break; done
            print -r -- ${${text##*<<}%%>>*}
            """;
        Assert.That(InShell("zsh", ["-f", "-c", Ask], line), Is.EqualTo(answer));
    }

    [TestCase("owt tra", "train")]
    [TestCase("owt train x.yaml training.optimizer=adamw_8", "training.optimizer=adamw_8bit")]
    [TestCase("owt train x.yaml training.learning_ra", "training.learning_rate=")]
    public void Fish_completes(string line, string answer) =>
        Assert.That(InShell("fish", ["--no-config", "-c", "owt completion fish | source; complete -C \"$LINE\""], line).Split('\t')[0], Is.EqualTo(answer));

    [TestCase("owt tra", "train")]
    [TestCase("owt train x.yaml training.learning_ra", "training.learning_rate=")]
    [TestCase("owt completion ", "bash")]
    public void PowerShell_completes(string line, string answer) => Assert.That(
        InShell("pwsh", ["-NoProfile", "-NonInteractive", "-Command", "owt completion pwsh | Out-String | Invoke-Expression; (TabExpansion2 $env:LINE $env:LINE.Length).CompletionMatches[0].CompletionText"], line), Is.EqualTo(answer));

    private static List<string> Of(string line) => [.. Completions.Of(CommandLine.Root(), LineWords.Of(line)).Select(static c => c.Word)];

    // Runs a shell in which owt is this build.
    private static string InShell(string shell, string[] arguments, string line)
    {
        using var folder = new TemporaryFolder();
        var program = folder.Write("owt", $"#!/bin/sh\nexec dotnet '{s_program}' \"$@\"\n");
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(program, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        }

        try
        {
            var (_, output, error) = Run(shell, arguments, ("PATH", $"{folder.Root}{Path.PathSeparator}{Environment.GetEnvironmentVariable("PATH")}"), ("LINE", line), ("HOME", folder.Root), ("TERM", "dumb"));
            Assert.That(error, Is.Empty);
            return output.TrimEnd('\n', '\r');
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Assert.Ignore($"needs {shell}, which this machine does not have");
            throw;
        }
    }

    private static (int Code, string Output, string Error) Run(string program, string[] arguments, params (string Name, string Value)[] environment)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        process.StandardInput.Close();
        var error = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output, error.Result);
    }
}
