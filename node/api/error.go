package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// Kind is the class of an error; each maps to one HTTP status and one exit code.
type Kind uint8

// The kinds, with the HTTP status of the wire contract.
const (
	KindInternal    Kind = iota // 500
	KindBadRequest              // 400 malformed reference
	KindNotFound                // 404
	KindRefused                 // 409 a guard refused it
	KindUnavailable             // 503 the Engine or the owner cannot be reached
	KindTimeout                 // 504
	KindForbidden               // 403 the caller may not do this
	KindInvalid                 // 422 wrong or missing field; a client reads it as KindBadRequest
)

// Error is a daemon's answer that is not success. Detail names the fault and the remedy.
type Error struct {
	Kind   Kind
	Detail string
}

func (e *Error) Error() string { return e.Detail }

// Is makes a KindForbidden an fs.ErrPermission, as a file's would be.
func (e *Error) Is(target error) bool { return e.Kind == KindForbidden && target == fs.ErrPermission }

// Errorf builds an Error.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// KindOf is the kind of err, KindInternal for errors of other types.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return KindTimeout
	}
	return KindInternal
}
