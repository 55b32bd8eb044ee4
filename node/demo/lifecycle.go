package demo

import (
	"context"
	"io"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/knowledge"
)

// Lifecycle is what the demo needs of a container engine. Removals of what does not exist
// are no errors.
type Lifecycle interface {
	Host(ctx context.Context) (knowledge.Host, error)
	List(ctx context.Context) ([]knowledge.Container, error)
	Inspect(ctx context.Context, id knowledge.ContainerID) (knowledge.Container, error)
	Stats(ctx context.Context, id knowledge.ContainerID, s *knowledge.Sample) error

	ImportImage(ctx context.Context, tag string, tar io.Reader) error
	RemoveImage(ctx context.Context, tag string) error
	Create(ctx context.Context, spec knowledge.ContainerSpec) (knowledge.ContainerID, error)
	Start(ctx context.Context, id knowledge.ContainerID) error
	Remove(ctx context.Context, id knowledge.ContainerID) error
	// Endpoints are the addresses of a container's TCP port, published ones first.
	Endpoints(ctx context.Context, id knowledge.ContainerID, port int) ([]string, error)
	Close() error
}

var _ Lifecycle = (*docker.Client)(nil)
