#include "cli/completion.hpp"

#include <algorithm>

namespace banger::cli {

namespace {

/// readline breaks words at = and :, too; banger wants those that the parser will see.
constexpr std::string_view bash_script =
    R"script(# Completion of banger for bash. Load it: source <(banger completion bash)
_banger() {
    local line=${COMP_LINE:0:COMP_POINT} word words=() i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        local rest=${line#"${line%%[![:space:]]*}"}
        ((i == COMP_CWORD)) && word=$rest
        if ((i > 0)) && [[ -n $line && $line == "$rest" ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        line=${rest#"$word"}
    done
    local current=${words[${#words[@]} - 1]}
    # What readline keeps of the word by itself.
    local kept=
    [[ $current == *[=:]* ]] && kept=${current%"${current##*[=:]}"}

    COMPREPLY=()
    local candidate
    while IFS= read -r candidate; do
        case $candidate in
        :files) compopt -o filenames
            mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "${current#"$kept"}") ;;
        :folders) compopt -o filenames
            mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -d -- "${current#"$kept"}") ;;
        *) candidate=${candidate%%$'\t'*}
            # The path in the machine follows.
            [[ $candidate == *: ]] && compopt -o nospace
            COMPREPLY+=("${candidate#"$kept"}") ;;
        esac
    done < <("${words[0]/#\~/$HOME}" __complete -- "${words[@]:1}" 2>/dev/null)
}
complete -F _banger banger
)script";

constexpr std::string_view zsh_script = R"script(#compdef banger
# Completion of banger for zsh. Load it, after compinit: source <(banger completion zsh)
_banger() {
    local -a candidates given
    local candidate word
    given=("${(@)words[2,CURRENT-1]}" "$PREFIX")
    for candidate in "${(@f)$("${words[1]/#\~/$HOME}" __complete -- "${(@Q)given}" 2>/dev/null)}"; do
        case $candidate in
        '') ;;
        :files) _files ;;
        :folders) _files -/ ;;
        *:|*:$'\t'*) compadd -S '' -- "${candidate%%$'\t'*}" ;;
        *$'\t'*)
            word=${candidate%%$'\t'*}
            candidates+=("${word//:/\\:}:${candidate#*$'\t'}") ;;
        *) candidates+=("${candidate//:/\\:}") ;;
        esac
    done
    (( ${#candidates} )) && _describe -V 'banger' candidates
}
if [[ ${funcstack[1]} = _banger ]]; then
    _banger "$@"
else
    compdef _banger banger
fi
)script";

constexpr std::string_view fish_script =
    R"script(# Completion of banger for fish. Load it: banger completion fish | source
function __banger_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for candidate in (command $words[1] __complete -- $words[2..-1] "$current" 2>/dev/null)
        switch $candidate
            case :files
                __fish_complete_path "$current"
            case :folders
                __fish_complete_directories "$current"
            case '*'
                echo $candidate
        end
    end
end
complete -c banger -e
complete -c banger -f -k -a '(__banger_complete)'
)script";

constexpr std::string_view powershell_script =
    R"script(# Completion of banger for PowerShell. Load it:
# banger completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName banger -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements |
        Where-Object { $_.Extent.EndOffset -lt $cursorPosition -or
            ($_.Extent.EndOffset -eq $cursorPosition -and $wordToComplete -eq '') } |
        ForEach-Object { $_.ToString() })
    $program = $words[0]
    $before = @($words | Select-Object -Skip 1)
    # An empty word would be lost on its way to the program in older versions.
    $current = if ($wordToComplete -eq '' -and $PSVersionTable.PSVersion -lt [version]'7.3') { '""' } else { $wordToComplete }
    & $program __complete -- @before $current 2>$null | ForEach-Object {
        $word, $help = $_ -split "`t", 2
        if ($word -eq ':files' -or $word -eq ':folders') {
            Get-ChildItem -Directory:($word -eq ':folders') -Path "$wordToComplete*" -ErrorAction SilentlyContinue |
                ForEach-Object { [System.Management.Automation.CompletionResult]::new($_.Name) }
        } else {
            if (-not $help) { $help = $word }
            [System.Management.Automation.CompletionResult]::new($word, $word, 'ParameterValue', $help)
        }
    }
}
)script";

}  // namespace

const std::vector<std::string>& completion_shells() {
    static const std::vector<std::string> shells = {"bash", "zsh", "fish", "powershell"};
    return shells;
}

std::string_view completion_script(std::string_view shell) {
    if (shell == "bash") return bash_script;
    if (shell == "zsh") return zsh_script;
    if (shell == "fish") return fish_script;
    return powershell_script;
}

}  // namespace banger::cli
