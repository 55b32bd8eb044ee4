package ctl

import (
	"os/exec"
	"strings"
)

// paged writes text that may be longer than the terminal through $PAGER, or less or
// more. Without a terminal or a pager it is written as it is.
func paged(a *app, text string) error {
	if !a.Terminal || a.Height > strings.Count(text, "\n") {
		return a.write(text)
	}
	for _, pager := range []string{a.env("PAGER"), "less", "more"} {
		words := strings.Fields(pager)
		if len(words) == 0 {
			continue
		}
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(text), a.Out, a.Err
		cmd.Env = a.Env
		if a.env("LESS") == "" {
			cmd.Env = append(cmd.Env, "LESS=FRX") // quit if it fits, keep colours, do not clear the screen
		}
		if cmd.Start() == nil {
			_ = cmd.Wait() // its exit code is not ours: the reader may quit early
			return nil
		}
	}
	return a.write(text)
}
