// Package observer reads an Engine's raw answers and the kernel's files for tests,
// independent of the product's own code. Only tests import it.
package observer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Engine is a Docker Engine over plain HTTP, to check the product and to act as a user.
type Engine struct {
	Socket string
	http   *http.Client
}

// Local is the Engine of DOCKER_HOST, or the default one.
func Local() *Engine {
	if socket, ok := strings.CutPrefix(os.Getenv("DOCKER_HOST"), "unix://"); ok {
		return At(socket)
	}
	return At("/var/run/docker.sock")
}

// At is the Engine behind a unix socket.
func At(socket string) *Engine {
	return &Engine{socket, &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}, Timeout: time.Minute}}
}

// Call makes one request; a status of 300 or more is an error with the message.
// Bytes are sent as a tar, other bodies as JSON.
func (e *Engine) Call(method, path string, body, into any) error {
	var sent io.Reader
	kind := "application/json"
	switch b := body.(type) {
	case nil:
	case []byte:
		sent, kind = bytes.NewReader(b), "application/x-tar"
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, "http://docker/v1.41"+path, sent)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", kind)
	resp, err := e.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// Ping requests the Engine's information.
func (e *Engine) Ping() error { return e.Call("GET", "/info", nil, &struct{}{}) }

// Transport connects to the Engine's socket.
func (e *Engine) Transport() http.RoundTripper { return e.http.Transport }

// Close closes idle connections.
func (e *Engine) Close() { e.http.CloseIdleConnections() }

// Remove removes a container, also a running one; one that does not exist is no error.
func (e *Engine) Remove(id string) error {
	err := e.Call("DELETE", "/containers/"+id+"?force=1&v=1", nil, nil)
	if err != nil && strings.Contains(err.Error(), "404") {
		return nil
	}
	return err
}

// Inspect is the Engine's description of a container.
func (e *Engine) Inspect(id string) (c Container, err error) {
	err = e.Call("GET", "/containers/"+id+"/json", nil, &c)
	return c, err
}

// Limits are a container's limits as the Engine stores them.
type Limits struct {
	NanoCPUs                      int64 `json:"NanoCpus"`
	CPUQuota                      int64 `json:"CpuQuota"`
	CPUPeriod                     int64 `json:"CpuPeriod"`
	CPUShares                     int64 `json:"CpuShares"`
	Memory, MemorySwap            int64
	MemoryReservation             int64
	CpusetCpus, CpusetMems        string
	RestartPolicy                 struct{ Name string }
	KernelMemory, KernelMemoryTCP int64
}

// Cores is the CPU limit in either dialect; 0: none.
func (l Limits) Cores() float64 {
	if l.NanoCPUs != 0 {
		return float64(l.NanoCPUs) / 1e9
	}
	if l.CPUQuota > 0 {
		return float64(l.CPUQuota) / float64(max(l.CPUPeriod, 1))
	}
	return 0
}

// Container is the part of an inspect that tests use.
type Container struct {
	ID    string `json:"Id"`
	State struct {
		Status    string
		Running   bool
		OOMKilled bool
		Pid       int
		StartedAt string
	}
	RestartCount    int
	HostConfig      Limits
	NetworkSettings struct{ IPAddress string }
}

// Undisturbed reports whether the container runs and was not restarted.
func (c Container) Undisturbed(was Container) bool {
	return c.RestartCount == was.RestartCount && c.State.StartedAt == was.State.StartedAt && c.State.Running &&
		!c.State.OOMKilled
}
