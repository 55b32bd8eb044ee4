package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"github.com/effiscale/effiscale/knowledge"
)

// Deadlines of the demonstration's operations: an import copies some 30 MB, a
// create and a start take well below a second.
const (
	importTimeout = 2 * time.Minute
	createTimeout = 30 * time.Second
	removeTimeout = 30 * time.Second
)

// ImportImage makes an image from a tar of its root file system, named tag.
func (c *Client) ImportImage(ctx context.Context, tag string, tar io.Reader) error {
	return c.do(ctx, opImport, tag, importTimeout, func(ctx context.Context, s *session) error {
		body, err := s.api.ImageImport(ctx, image.ImportSource{Source: tar, SourceName: "-"}, tag, image.ImportOptions{})
		if err != nil {
			return err
		}
		defer body.Close()
		// Progress follows, and a failure as a line of it, with HTTP 200.
		for dec := json.NewDecoder(body); ; {
			var line struct {
				Error string `json:"error"`
			}
			switch err := dec.Decode(&line); {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			case line.Error != "":
				return &Error{Op: opImport.name, ID: tag, Kind: KindRefused, Message: clean(line.Error), Status: 200}
			}
		}
	})
}

// Spec is a container for Create.
type Spec struct {
	Name    string
	Image   string
	Command []string
	Env     []string
	Labels  map[string]string
	Limits  knowledge.Limits // CPU in the dialect of CPUField; 0: no limit
	// Publish are TCP ports of the container that get a free port of 127.0.0.1.
	Publish []int
	// Network is the Engine's network mode; "": bridge.
	Network string
}

// Create makes a container and does not start it.
func (c *Client) Create(ctx context.Context, spec Spec) (knowledge.ContainerID, error) {
	cfg := &container.Config{Image: spec.Image, Cmd: spec.Command, Env: spec.Env, Labels: spec.Labels}
	host := &container.HostConfig{NetworkMode: container.NetworkMode(spec.Network)}
	host.Memory, host.MemorySwap = int64(spec.Limits.Memory), int64(spec.Limits.MemorySwap)
	host.CPUShares = spec.Limits.Shares
	switch {
	case spec.Limits.CPU == 0:
	case spec.Limits.CPUField == knowledge.CPUFieldQuota:
		period := spec.Limits.Period
		if period == 0 {
			period = knowledge.DefaultPeriod
		}
		host.CPUPeriod, host.CPUQuota = period.Microseconds(), quotaOf(spec.Limits.CPU, period)
	default:
		host.NanoCPUs = int64(spec.Limits.CPU)
	}
	cfg.ExposedPorts, host.PortBindings = nat.PortSet{}, nat.PortMap{}
	for _, p := range spec.Publish {
		port := nat.Port(strconv.Itoa(p) + "/tcp")
		cfg.ExposedPorts[port] = struct{}{}
		host.PortBindings[port] = []nat.PortBinding{{HostIP: "127.0.0.1"}}
	}
	var id knowledge.ContainerID
	err := c.do(ctx, opCreate, spec.Name, createTimeout, func(ctx context.Context, s *session) error {
		r, err := s.api.ContainerCreate(ctx, cfg, host, &network.NetworkingConfig{}, nil, spec.Name)
		if err != nil {
			return err
		}
		if !isID(r.ID) {
			return errNotContainer
		}
		id = knowledge.ContainerID(r.ID)
		return nil
	})
	return id, err
}

// Start starts a container; one that runs already is no error.
func (c *Client) Start(ctx context.Context, id knowledge.ContainerID) error {
	return c.act(ctx, opStart, id, createTimeout, func(ctx context.Context, s *session) error {
		return s.api.ContainerStart(ctx, string(id), container.StartOptions{})
	})
}

// Stop asks a container to end and kills it after grace (whole seconds).
func (c *Client) Stop(ctx context.Context, id knowledge.ContainerID, grace time.Duration) error {
	seconds := int(max(grace, 0) / time.Second)
	return c.act(ctx, opStop, id, grace+removeTimeout, func(ctx context.Context, s *session) error {
		return s.api.ContainerStop(ctx, string(id), container.StopOptions{Timeout: &seconds})
	})
}

// Remove kills and removes a container and its anonymous volumes; one that does
// not exist is no error.
func (c *Client) Remove(ctx context.Context, id knowledge.ContainerID) error {
	err := c.act(ctx, opRemove, id, removeTimeout, func(ctx context.Context, s *session) error {
		return s.api.ContainerRemove(ctx, string(id), container.RemoveOptions{Force: true, RemoveVolumes: true})
	})
	if IsGone(err) {
		return nil
	}
	return err
}

// RemoveImage removes an image by its tag; one that does not exist is no error.
func (c *Client) RemoveImage(ctx context.Context, tag string) error {
	err := c.do(ctx, opRemoveImage, tag, removeTimeout, func(ctx context.Context, s *session) error {
		_, err := s.api.ImageRemove(ctx, tag, image.RemoveOptions{Force: true, PruneChildren: true})
		return err
	})
	if IsGone(err) {
		return nil
	}
	return err
}

// Endpoints are the addresses, host:port, under which a running container's TCP
// port may be reached from this host: the published ones first, then the
// container's own on its networks.
func (c *Client) Endpoints(ctx context.Context, id knowledge.ContainerID, port int) ([]string, error) {
	var out []string
	err := c.act(ctx, opInspect, id, c.o.InspectTimeout, func(ctx context.Context, s *session) error {
		j, err := s.api.ContainerInspect(ctx, string(id))
		if err != nil {
			return err
		}
		if j.NetworkSettings == nil {
			return errNotContainer
		}
		for _, b := range j.NetworkSettings.Ports[nat.Port(strconv.Itoa(port)+"/tcp")] {
			out = append(out, net.JoinHostPort(b.HostIP, b.HostPort))
		}
		for _, n := range j.NetworkSettings.Networks {
			if n != nil && n.IPAddress != "" {
				out = append(out, net.JoinHostPort(n.IPAddress, strconv.Itoa(port)))
			}
		}
		return nil
	})
	if err == nil && len(out) == 0 {
		err = &Error{Op: opInspect.name, ID: string(id), Kind: KindGone, Message: fmt.Sprintf("it has no address for port %d", port)}
	}
	return out, err
}

// act is one call about one container.
func (c *Client) act(ctx context.Context, op operation, id knowledge.ContainerID, timeout time.Duration, call func(context.Context, *session) error) error {
	if err := checkID(op, id); err != nil {
		return err
	}
	return c.do(ctx, op, string(id), timeout, call)
}
