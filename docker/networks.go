package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/docker/docker/api/types/network"

	"github.com/effiscale/effiscale/knowledge"
)

// CreateNetwork creates a network and returns its id. A name that is in use is
// KindConflict.
func (c *Client) CreateNetwork(ctx context.Context, spec knowledge.NetworkSpec) (id string, err error) {
	if err := checkNetwork(opCreateNetwork, spec.Name); err != nil {
		return "", err
	}
	o := network.CreateOptions{
		Driver: spec.Driver, Labels: spec.Labels, Internal: spec.Internal, Attachable: spec.Attachable,
	}
	err = c.do(ctx, opCreateNetwork, spec.Name, createTimeout, func(ctx context.Context, s *session) error {
		r, err := s.api.NetworkCreate(ctx, spec.Name, o)
		if err == nil && !knowledge.FullID(r.ID) {
			err = errNotNetwork
		}
		id = r.ID
		return err
	})
	return id, err
}

// RemoveNetwork removes a network by name or id; one that does not exist is no
// error, and one with containers on it is KindRefused.
func (c *Client) RemoveNetwork(ctx context.Context, name string) error {
	if err := checkNetwork(opRemoveNetwork, name); err != nil {
		return err
	}
	err := c.do(ctx, opRemoveNetwork, name, removeTimeout, func(ctx context.Context, s *session) error {
		return s.api.NetworkRemove(ctx, name)
	})
	return unlessGone(err)
}

// ConnectNetwork puts a container on a network, under these aliases beside its name. A
// network or a container that does not exist is KindGone.
func (c *Client) ConnectNetwork(ctx context.Context, name string, id knowledge.ContainerID, aliases ...string) error {
	if err := checkNetwork(opConnectNetwork, name); err != nil {
		return err
	}
	if err := checkID(opConnectNetwork, id); err != nil {
		return err
	}
	return c.do(ctx, opConnectNetwork, name, createTimeout, func(ctx context.Context, s *session) error {
		// Of a container that does not run the Engine would store any name, and fail at its start.
		n, err := s.api.NetworkInspect(ctx, name, network.InspectOptions{})
		if err != nil {
			return err
		}
		return s.api.NetworkConnect(ctx, n.ID, string(id), &network.EndpointSettings{Aliases: aliases})
	})
}

// ErrNoNetwork is the cause of an error about a container without a network, as an Engine without
// a bridge makes it.
var ErrNoNetwork = errors.New("no network")

// Endpoints are the addresses, host:port, under which a running container's TCP
// port may be reached from this host: the published ones first, then the
// container's own on its networks.
func (c *Client) Endpoints(ctx context.Context, id knowledge.ContainerID, port int) ([]string, error) {
	var out []string
	onNone := true
	err := c.act(ctx, opInspect, id, c.o.InspectTimeout, func(ctx context.Context, s *session) error {
		j, err := s.api.ContainerInspect(ctx, string(id))
		if err != nil {
			return err
		}
		if j.NetworkSettings == nil {
			return errNotContainer
		}
		for _, b := range j.NetworkSettings.Ports[tcp(port)] {
			out = append(out, net.JoinHostPort(b.HostIP, b.HostPort))
		}
		for name, n := range j.NetworkSettings.Networks {
			onNone = onNone && name == "none"
			if n != nil && n.IPAddress != "" {
				out = append(out, net.JoinHostPort(n.IPAddress, strconv.Itoa(port)))
			}
		}
		return nil
	})
	if err == nil && len(out) == 0 {
		e := &Error{Op: opInspect.name, ID: string(id), Kind: KindGone}
		e.Message = fmt.Sprintf("it has no address for port %d", port)
		if onNone {
			e.Message, e.cause = e.Message+": it is on no network", ErrNoNetwork
		}
		err = e
	}
	return out, err
}

// checkNetwork refuses what cannot be a network's name: it becomes part of a URL.
func checkNetwork(op operation, name string) error {
	if knowledge.ValidName(name) {
		return nil
	}
	return refuse(op, name, "this is not the name of a network")
}
