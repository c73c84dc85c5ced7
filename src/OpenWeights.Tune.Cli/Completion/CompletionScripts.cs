namespace OpenWeights.Tune.Cli.Completion;

/// <summary>What a shell reads to complete lines that begin with owt.</summary>
internal static class CompletionScripts
{
    private static readonly Dictionary<string, string> s_scripts = new()
    {
        ["bash"] = """
            # bash: completion of owt. For every shell: owt completion bash > ~/.local/share/bash-completion/completions/owt
            _owt() {
                local typed word seen="" breaks="" c
                COMPREPLY=()
                while IFS=$'\t' read -r word _; do
                    COMPREPLY+=("$word")
                done < <("${COMP_WORDS[0]}" "[suggest:$COMP_POINT]" "$COMP_LINE" 2>/dev/null)
                # bash takes a word apart at = and :, and puts the answer behind the last of them.
                typed=${COMP_LINE:0:COMP_POINT}
                typed=${typed##*[[:space:]]}
                for c in = :; do
                    [[ $COMP_WORDBREAKS != *$c* ]] || breaks+=$c
                done
                [[ -z $breaks || $typed != *[$breaks]* ]] || seen=${typed%"${typed##*[$breaks]}"}
                COMPREPLY=("${COMPREPLY[@]#"$seen"}")
                if [[ ${#COMPREPLY[@]} -gt 0 && ${COMPREPLY[0]} == *= ]]; then
                    compopt -o nospace 2>/dev/null
                fi
            }
            complete -o default -F _owt owt

            """,
        ["zsh"] = """
            #compdef owt
            # zsh: completion of owt. For every shell: owt completion zsh > a folder of $fpath, as _owt
            _owt() {
                local line word what
                local -a closed open closed_shown open_shown
                line="${(j: :)words[1,CURRENT-1]} $PREFIX"
                while IFS=$'\t' read -r word what; do
                    if [[ $word == *= ]]; then
                        open+=("$word"); open_shown+=("$word${what:+  -- $what}")
                    else
                        closed+=("$word"); closed_shown+=("$word${what:+  -- $what}")
                    fi
                done < <("${words[1]}" "[suggest:${#line}]" "$line" 2>/dev/null)
                if (( ${#closed} + ${#open} == 0 )); then
                    _files
                    return
                fi
                (( ${#closed} == 0 )) || compadd -l -d closed_shown -a closed
                (( ${#open} == 0 )) || compadd -l -S '' -d open_shown -a open
            }
            if [[ ${funcstack[1]} == _owt ]]; then
                _owt "$@"
            else
                compdef _owt owt
            fi

            """,
        ["fish"] = """
            # fish: completion of owt. For every shell: owt completion fish > ~/.config/fish/completions/owt.fish
            function __owt_complete
                set -l line (commandline -cp)
                set -l program (commandline -opc)[1]
                set -l found ($program "[suggest:"(string length -- "$line")"]" "$line" 2>/dev/null)
                if test (count $found) -gt 0
                    printf '%s\n' $found
                else
                    __fish_complete_path (commandline -ct)
                end
            end
            complete -c owt -f -a '(__owt_complete)'

            """,
        ["pwsh"] = """
            # PowerShell: completion of owt. For every shell: owt completion pwsh >> $PROFILE
            Register-ArgumentCompleter -Native -CommandName owt -ScriptBlock {
                param($wordToComplete, $commandAst, $cursorPosition)
                $line = $commandAst.ToString()
                $position = $cursorPosition - $commandAst.Extent.StartOffset
                $line = $line.PadRight($position)
                & $commandAst.CommandElements[0].Value "[suggest:$position]" $line 2>$null | ForEach-Object {
                    $word, $what = $_ -split "`t", 2
                    if (-not $what) { $what = $word }
                    [System.Management.Automation.CompletionResult]::new($word, $word, 'ParameterValue', $what)
                }
            }

            """,
    };

    /// <summary>The shells.</summary>
    internal static IReadOnlyList<string> Shells { get; } = [.. s_scripts.Keys];

    /// <summary>The script of a shell.</summary>
    /// <param name="shell">One of <see cref="Shells"/>.</param>
    internal static string Of(string shell) => s_scripts[shell].ReplaceLineEndings("\n");
}
