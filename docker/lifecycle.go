package docker

import (
	"context"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"github.com/effiscale/effiscale/knowledge"
)

// Timeouts of calls that take well below a second on an idle host. A stop and a
// restart may take the container's own timeout longer.
const (
	createTimeout = 30 * time.Second
	removeTimeout = 30 * time.Second
)

// Create creates a container without starting it. A name that is in use is
// KindConflict; an image or a network that does not exist is KindGone.
func (c *Client) Create(ctx context.Context, spec knowledge.ContainerSpec) (knowledge.ContainerID, error) {
	if err := checkReference(opCreate, spec.Image); err != nil {
		return "", err
	}
	config := &container.Config{Image: spec.Image, Cmd: spec.Command, Env: spec.Env, Labels: spec.Labels}
	host := &container.HostConfig{NetworkMode: container.NetworkMode(spec.Network), Resources: resourcesOf(spec.Limits)}
	config.ExposedPorts, host.PortBindings = nat.PortSet{}, nat.PortMap{}
	for _, p := range spec.Publish {
		port := tcp(p)
		config.ExposedPorts[port] = struct{}{}
		host.PortBindings[port] = []nat.PortBinding{{HostIP: "127.0.0.1"}}
	}
	var id knowledge.ContainerID
	err := c.do(ctx, opCreate, spec.Name, createTimeout, func(ctx context.Context, s *session) error {
		r, err := s.api.ContainerCreate(ctx, config, host, &network.NetworkingConfig{}, nil, spec.Name)
		if err != nil {
			return err
		}
		if !knowledge.FullID(r.ID) {
			return errNotContainer
		}
		id = knowledge.ContainerID(r.ID)
		return nil
	})
	return id, err
}

// resourcesOf writes limits as the Engine stores them.
func resourcesOf(l knowledge.Limits) container.Resources {
	if w := l.Recorded; w != (knowledge.Recorded{}) {
		return container.Resources{CPUShares: l.Shares, NanoCPUs: w.NanoCPUs, CPUQuota: w.Quota, CPUPeriod: w.Period,
			Memory: w.Memory, MemorySwap: w.MemorySwap}
	}
	r := container.Resources{Memory: int64(l.Memory), MemorySwap: int64(l.MemorySwap), CPUShares: l.Shares}
	switch {
	case l.CPU == 0:
	case l.Dialect == CPUQuota:
		period := l.Period
		if period == 0 {
			period = knowledge.DefaultPeriod
		}
		r.CPUPeriod, r.CPUQuota = period.Microseconds(), quotaOf(l.CPU, period)
	default:
		r.NanoCPUs = int64(l.CPU)
	}
	return r
}

func tcp(port int) nat.Port { return nat.Port(strconv.Itoa(port) + "/tcp") }

// Start starts a container; a running one is no error.
func (c *Client) Start(ctx context.Context, id knowledge.ContainerID) error {
	return c.act(ctx, opStart, id, createTimeout, func(ctx context.Context, s *session) error {
		return s.api.ContainerStart(ctx, string(id), container.StartOptions{})
	})
}

// Stop sends a container its stop signal, and kills it after timeout (whole
// seconds); a stopped one is no error.
func (c *Client) Stop(ctx context.Context, id knowledge.ContainerID, timeout time.Duration) error {
	return c.act(ctx, opStop, id, timeout+removeTimeout, func(ctx context.Context, s *session) error {
		return s.api.ContainerStop(ctx, string(id), stopWithin(timeout))
	})
}

// Restart stops a container as Stop does and starts it again. It must not be
// called for a Swarm task: Swarm starts another one, and this one goes on.
func (c *Client) Restart(ctx context.Context, id knowledge.ContainerID, timeout time.Duration) error {
	return c.act(ctx, opRestart, id, timeout+removeTimeout+createTimeout, func(ctx context.Context, s *session) error {
		return s.api.ContainerRestart(ctx, string(id), stopWithin(timeout))
	})
}

func stopWithin(timeout time.Duration) container.StopOptions {
	seconds := int(max(timeout, 0) / time.Second)
	return container.StopOptions{Timeout: &seconds}
}

// Remove kills and removes a container and its anonymous volumes; one that does
// not exist is no error.
func (c *Client) Remove(ctx context.Context, id knowledge.ContainerID) error {
	err := c.act(ctx, opRemove, id, removeTimeout, func(ctx context.Context, s *session) error {
		return s.api.ContainerRemove(ctx, string(id), container.RemoveOptions{Force: true, RemoveVolumes: true})
	})
	return unlessGone(err)
}

// act is one call about one container.
func (c *Client) act(ctx context.Context, op operation, id knowledge.ContainerID, timeout time.Duration,
	call func(context.Context, *session) error,
) error {
	if err := checkID(op, id); err != nil {
		return err
	}
	return c.do(ctx, op, string(id), timeout, call)
}

// unlessGone is for removals: what does not exist needs none.
func unlessGone(err error) error {
	if IsGone(err) {
		return nil
	}
	return err
}
