package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Kind is the class of a daemon's refusal; each maps to one HTTP status and one
// exit code.
type Kind uint8

// The kinds, with the HTTP status of the wire contract.
const (
	KindInternal    Kind = iota // 500
	KindBadRequest              // 400 malformed reference or number
	KindNotFound                // 404
	KindRefused                 // 409 a guard said no
	KindUnavailable             // 503 the Engine or the owner cannot be reached
	KindTimeout                 // 504
	KindForbidden               // 403 the caller may not do this
)

// Error is a daemon's answer that is not success. Detail says what is wrong and
// what to do.
type Error struct {
	Kind   Kind
	Detail string
}

func (e *Error) Error() string { return e.Detail }

// Is makes a KindForbidden an fs.ErrPermission, as a file's would be.
func (e *Error) Is(target error) bool { return e.Kind == KindForbidden && target == fs.ErrPermission }

// Errorf builds an Error.
//
//go:noinline // it is in hundreds of places: copies make the binary larger
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

// Daemon is what the three services and the socket need of a running node. A
// container reference is a full id, a unique prefix of at least 12 hex digits,
// or an exact name, checked for form by this package before it is handed on. The
// commands may put the name of a node and a slash before it: HOST/NAME.
// Errors are *Error where the caller should tell the user something.
type Daemon interface {
	Cluster

	Status(ctx context.Context) (Status, error)
	Explain(ctx context.Context, container string) (Explain, error)
	// Records is the history of a container or a service, newest first.
	Records(ctx context.Context, name string, limit int) (History, error)
	Plan(ctx context.Context, r PlanRequest) (Plan, error)
	// Trace is the demand on record of a service, or of a container's service.
	Trace(ctx context.Context, r TraceRequest) (Trace, error)
	Scale(ctx context.Context, r ScaleRequest) (ScaleResult, error)
	Pause(ctx context.Context, r PauseRequest) (PauseResult, error)
	// Restore puts one container of any host, or with "" all of this one, back to their
	// original limits.
	Restore(ctx context.Context, container string) (RestoreResult, error)
	Reload(ctx context.Context) error
	// Replicate changes the number of replicas and returns the containers made
	// or removed; with one replica allowed it is a KindRefused.
	Replicate(ctx context.Context, r ReplicaRequest) ([]string, error)

	Metric(ctx context.Context, container string) (Metric, error)
	Metrics(ctx context.Context, container string, window time.Duration) ([]Metric, error)
	// Watch starts (or stops) monitoring; already reports that nothing changed.
	Watch(ctx context.Context, container string, on bool) (already bool, err error)
	Predict(ctx context.Context, container string, window time.Duration) (Predictions, error)
	WireHistory(ctx context.Context, container string, limit int) ([]WireRecord, error)
	Decide(ctx context.Context, container string) (ContainerPlan, error)

	// Identity is the node's name and zone.
	Identity() (name, zone string)
	Neighbors(ctx context.Context) (map[string]string, error)
	// Register introduces another controller, which Neighbors tells from then on.
	Register(ctx context.Context, controllerID, endpoint string) error
	// Leader tells whether this node owns a container's service, and who does;
	// with "", whether it leads at all.
	Leader(ctx context.Context, container string) (self bool, owner string, err error)
	// Health is "" when all is well, else what is degraded.
	Health() string
}
