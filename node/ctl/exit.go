package ctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/effiscale/effiscale/node/api"
)

// The exit codes. Those from 69 on are sysexits(3)'s.
const (
	ExitOK          = 0
	ExitError       = 1
	ExitUsage       = 2
	ExitDegraded    = 3 // status: something that should work does not
	ExitWouldChange = 4 // plan: there is something to do
	ExitNotFound    = 5
	ExitRefused     = 6 // a policy or a guard said no
	ExitUnreachable = 69
	ExitLocked      = 75
	ExitPermission  = 77
	ExitConfig      = 78
	ExitInterrupted = 130
)

const exitCodesHelp = `Exit codes

    0  fine
    1  general error; doctor: a check failed
    2  usage: unknown command or flag, malformed name or number
    3  degraded (status): something that should work does not, or no majority is seen
    4  would change (plan): there is something to do
    5  not found: no such container or service
    6  refused by a policy or a guard
   69  the daemon, the Engine behind it or the host asked about cannot be reached, or not in time
   75  the state is locked: another daemon runs on the same data directory
   77  permission denied
   78  bad configuration; run: another node has this one's name or identity
  130  interrupted: demo ended by Ctrl-C, or a second Ctrl-C
`

// coded is an error with the exit code that it asks for; a nil error inside
// prints nothing.
type coded struct {
	code int
	err  error
}

func (c *coded) Error() string {
	if c.err == nil {
		return ""
	}
	return c.err.Error()
}

func (c *coded) Unwrap() error { return c.err }

// Coded gives err an exit code. A nil err exits with the code and says nothing.
//
//go:noinline // copies make the binary larger
func Coded(code int, err error) error { return &coded{code: code, err: err} }

//go:noinline // copies make the binary larger
func usagef(format string, args ...any) error {
	return Coded(ExitUsage, fmt.Errorf(format, args...))
}

// codeOf chooses the exit code of an error.
func codeOf(err error) int {
	if err == nil {
		return ExitOK
	}
	if c, ok := errors.AsType[*coded](err); ok {
		return c.code
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return ExitPermission
	case errors.Is(err, api.ErrNotRunning):
		return ExitUnreachable
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.Is(err, syscall.EPIPE):
		return ExitOK // the reader has seen enough
	}
	if _, ok := errors.AsType[*api.Error](err); !ok && !errors.Is(err, context.DeadlineExceeded) {
		return ExitError
	}
	switch api.KindOf(err) {
	case api.KindBadRequest:
		return ExitUsage
	case api.KindNotFound:
		return ExitNotFound
	case api.KindRefused:
		return ExitRefused
	case api.KindUnavailable, api.KindTimeout:
		return ExitUnreachable
	}
	return ExitError
}
