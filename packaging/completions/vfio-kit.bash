# bash completion of vfio-kit
_vfio_kit_completion() {
    local breaks=$COMP_WORDBREAKS quoted type value
    # Between quotes bash breaks no word, and needs no backslash.
    [[ ${COMP_WORDS[COMP_CWORD]} == [\"\']* ]] && quoted=1 breaks=
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            plain)
                [[ $value == *= ]] && compopt -o nospace
                [[ ! $quoted && $value == *[!A-Za-z0-9_.,:=/@+-]* ]] && printf -v value %q "$value"
                COMPREPLY+=("$value")
                ;;
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
        esac
    done < <(env COMP_WORDS="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$breaks" \
        _VFIO_KIT_COMPLETE=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F _vfio_kit_completion vfio-kit
