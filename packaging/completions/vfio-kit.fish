# fish completion of vfio-kit
function _vfio_kit_completion
    set -l command (commandline -opc)[1]
    set -l line (commandline -cp | string collect)
    set -l option (string match -r -- '^-[^=]*=' (commandline -ct))
    set -l asked COMP_WORDS="$line" _VFIO_KIT_COMPLETE=fish_complete
    env $asked $command 2>/dev/null | while read -l answer
        set -l parts (string split -m 1 , -- $answer)
        switch $parts[1]
            case plain
                echo $parts[2]
            case dir
                for path in (__fish_complete_directories $parts[2])
                    string join '' -- $option $path
                end
            case file
                for path in (__fish_complete_path $parts[2])
                    string join '' -- $option $path
                end
        end
    end
end
complete --command vfio-kit --no-files --keep-order --arguments "(_vfio_kit_completion)"
