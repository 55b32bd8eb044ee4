package api

import (
	"context"
	"time"
)

// Backend is what a server answers with. A container reference is a full id, a unique
// prefix of at least 12 hex digits, or an exact name; this package checks its form. The
// commands may put the name of a node and a slash before it: HOST/NAME. Errors are *Error
// where the user should read the text.
type Backend struct {
	Node       NodeBackend
	Monitor    MonitorBackend
	Controller ControllerBackend
	Execution  ExecutionBackend
	Routes     []Route // of the socket
}

// NodeBackend is asked by all three services and by the metrics page.
type NodeBackend interface {
	// Identity is the node's name and zone.
	Identity() (name, zone string)
	// Health is "" when all is well, else what is degraded.
	Health() string
	Status(ctx context.Context, q None) (Status, error)
	// ClusterStats answers at once, at any time; the zero value without a cluster.
	ClusterStats() ClusterStats
}

// MonitorBackend answers the monitor service.
type MonitorBackend interface {
	Metric(ctx context.Context, container string) (Metric, error)
	Metrics(ctx context.Context, container string, window time.Duration) ([]Metric, error)
	// Watch starts (or stops) monitoring; already reports that nothing changed.
	Watch(ctx context.Context, container string, on bool) (already bool, err error)
	Predict(ctx context.Context, container string, window time.Duration) (Predictions, error)
}

// ControllerBackend answers the controller service.
type ControllerBackend interface {
	// Register introduces another controller, which Neighbors lists from then on.
	Register(ctx context.Context, controllerID, endpoint string) error
	Neighbors(ctx context.Context) (map[string]string, error)
	Decide(ctx context.Context, container string) (ContainerPlan, error)
	// Leader reports whether this node owns a container's service, and which node does;
	// with "", whether it leads at all.
	Leader(ctx context.Context, container string) (self bool, owner string, err error)
}

// ExecutionBackend answers the execution service.
type ExecutionBackend interface {
	Scale(ctx context.Context, q ScaleRequest) (ScaleResult, error)
	// Replicate changes the number of replicas and returns the containers made
	// or removed; with one replica allowed it is a KindRefused.
	Replicate(ctx context.Context, q ReplicaRequest) ([]string, error)
	WireHistory(ctx context.Context, container string, limit int) ([]WireRecord, error)
}
