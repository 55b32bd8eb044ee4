package ctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/effiscale/effiscale/node/api"
)

// The exit codes, as help/exit-codes.md lists them. 69 to 78 are those of sysexits(3).
const (
	ExitOK          = 0
	ExitError       = 1
	ExitUsage       = 2
	ExitDegraded    = 3 // status: a problem, or no majority
	ExitWouldChange = 4 // plan: changes are due
	ExitNotFound    = 5
	ExitRefused     = 6 // by a policy or a guard
	ExitUnreachable = 69
	ExitDisk        = 74
	ExitLocked      = 75
	ExitPermission  = 77
	ExitConfig      = 78
	ExitInterrupted = 130
)

// coded is an error with its exit code; a nil error inside prints nothing.
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

// Coded gives err an exit code. With a nil err the exit code is all there is.
func Coded(code int, err error) error { return &coded{code: code, err: err} }

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
	case errors.Is(err, fs.ErrNotExist): // a file that an argument names
		return ExitUsage
	case errors.Is(err, api.ErrNotRunning):
		return ExitUnreachable
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.Is(err, syscall.EPIPE):
		return ExitOK // the reader closed the pipe, as head does
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
