package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/docker/docker/client"

	"github.com/effiscale/effiscale/knowledge"
)

// CloneError names what of a container a clone cannot have.
type CloneError struct {
	Name   string
	Fields []Uncloneable
}

// Error is a sentence.
func (e *CloneError) Error() string {
	all := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		all[i] = f.String()
	}
	return fmt.Sprintf("cannot clone container %s: %s", e.Name, strings.Join(all, "; "))
}

// Clone creates a container like another one of this host, without starting it, from the
// Engine's inspect at its own API version: same image, command, environment, networks,
// labels, limits and mounts, without what can exist once (name, published ports,
// addresses, aliases), and with volumes of its own for anonymous ones. The Engine neither
// restarts it nor removes it at its end. What cannot be cloned is a *CloneError; a name
// that is in use is KindConflict.
func (c *Client) Clone(ctx context.Context, template knowledge.ContainerID, spec knowledge.CloneSpec) (
	id knowledge.ContainerID, err error,
) {
	if err := checkID(opCreate, template); err != nil {
		return "", err
	}
	var refused error
	err = c.do(ctx, opCreate, spec.Name, createTimeout, func(ctx context.Context, s *session) error {
		host, err := s.knownHost(ctx)
		if err != nil {
			return err
		}
		inspect, err := s.raw(ctx, http.MethodGet, "/containers/"+string(template)+"/json", nil)
		if err != nil {
			return err
		}
		body, more, err := cloneBody(inspect, spec, host.Name)
		if err != nil {
			refused = err // no error of the Engine
			return nil
		}
		id, err = s.createRaw(ctx, spec.Name, body, more)
		return err
	})
	return id, errors.Join(refused, err)
}

// createRaw creates a container and connects it to networks. One that cannot be
// connected is removed again.
func (s *session) createRaw(ctx context.Context, name string, body []byte, more []attachment) (
	knowledge.ContainerID, error,
) {
	answer, err := s.raw(ctx, http.MethodPost, "/containers/create?name="+url.QueryEscape(name), body)
	if err != nil {
		return "", err
	}
	var made struct{ ID string }
	if err := json.Unmarshal(answer, &made); err != nil || !knowledge.FullID(made.ID) {
		return "", errNotContainer
	}
	for _, n := range more {
		body, err := json.Marshal(map[string]any{"Container": made.ID, "EndpointConfig": n.endpoint})
		if err == nil {
			_, err = s.raw(ctx, http.MethodPost, "/networks/"+url.PathEscape(n.name)+"/connect", body)
		}
		if err != nil {
			remove := "/containers/" + made.ID + "?force=1&v=1"
			_, left := s.raw(context.WithoutCancel(ctx), http.MethodDelete, remove, nil)
			return "", errors.Join(err, left)
		}
	}
	return knowledge.ContainerID(made.ID), nil
}

// raw is a request in the Engine's own API version, which may be newer than the client
// module's, and its answer as it came.
func (s *session) raw(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	address := s.scheme() + "://" + client.DummyHost + "/v" + s.version + path
	r, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "effiscale")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.api.HTTPClient().Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode < http.StatusBadRequest {
		return answer, err
	}
	var said struct{ Message string }
	if json.Unmarshal(answer, &said) != nil || said.Message == "" {
		said.Message = string(answer)
	}
	return nil, errors.New(said.Message)
}
