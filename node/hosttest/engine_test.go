package hosttest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"
)

// engine speaks to one host's Engine in raw HTTP: a witness, and a person's hand.
type engine struct{ http *http.Client }

func newEngine(socket string) *engine {
	return &engine{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}, Timeout: time.Minute}}
}

// call makes one request; a status of 300 or more is an error with the message.
func (e *engine) call(method, path string, body, into any) error {
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

func (e *engine) ping() error { return e.call("GET", "/info", nil, &struct{}{}) }

const image = "effi-load"

// loadImage gives the Engine the image of the run, the same one on every host.
func (e *engine) loadImage() error {
	if err := e.call("POST", "/images/load?quiet=1", rig.archive, nil); err != nil {
		return err
	}
	return e.call("GET", "/images/"+image+":1/json", nil, &struct{}{}) // an error of the load comes with status 200
}

// archiveOf is an image with one program in it, as `docker save` writes it. An import
// of a root file system would be another image on each host, for it has its own time.
func archiveOf(program string) ([]byte, error) {
	b, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	layer, err := tarOf(file{"load", b})
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": struct{}{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{image + ":1"}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return nil, err
	}
	return tarOf(file{"layer.tar", layer}, file{"config.json", config}, file{"manifest.json", manifest})
}

type file struct {
	name string
	text []byte
}

func tarOf(files ...file) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.text))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.text); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}

const MiB = 1 << 20

// hostConfig is the Engine's own form of a container's limits.
type hostConfig struct {
	NanoCPUs  int64 `json:"NanoCpus"`
	CPUQuota  int64 `json:"CpuQuota"`
	CPUPeriod int64 `json:"CpuPeriod"`
	Memory    int64
}

// cores is the CPU limit in either dialect; 0: none.
func (h hostConfig) cores() float64 {
	if h.NanoCPUs != 0 {
		return float64(h.NanoCPUs) / 1e9
	}
	if h.CPUQuota > 0 {
		return float64(h.CPUQuota) / float64(max(h.CPUPeriod, 1))
	}
	return 0
}

type inspected struct {
	ID    string `json:"Id"`
	State struct {
		Running   bool
		OOMKilled bool
		Pid       int
		StartedAt string
	}
	RestartCount int
	HostConfig   hostConfig
}

// spec is a container to be made.
type spec struct {
	service string
	do      string // arguments of the load program
	cpus    float64
	memory  int64
	labels  map[string]string
	restart string // restart policy
}

// box is a running container on a host.
type box struct {
	host     *host
	id, name string
	service  string
	kernel   kernel
	began    inspected
}

// mark is the label that names the test; the daemons' docker.only_label.
const mark = "org.effiscale.hosts"

// box makes and starts a container that the test's daemons see.
func (h *host) box(s spec) (*box, error) {
	b := &box{host: h, service: s.service, name: fmt.Sprintf("%s-on-h%d", s.service, h.n)}
	labels := map[string]string{mark: h.t.Name(), "effiscale.enable": "true", "effiscale.service": s.service}
	for k, v := range s.labels {
		labels[k] = v
	}
	with := map[string]any{"Memory": s.memory, "MemorySwap": s.memory, "NanoCpus": int64(s.cpus * 1e9), "NetworkMode": "none"}
	if s.restart != "" {
		with["RestartPolicy"] = map[string]any{"Name": s.restart}
	}
	var made struct {
		ID string `json:"Id"`
	}
	body := map[string]any{"Image": image + ":1", "Cmd": append([]string{"/load"}, strings.Fields(s.do)...), "Labels": labels, "HostConfig": with}
	if err := h.engine.call("POST", "/containers/create?name="+b.name, body, &made); err != nil {
		return nil, err
	}
	b.id = made.ID
	h.t.Cleanup(b.remove)
	if err := h.engine.call("POST", "/containers/"+b.id+"/start", nil, nil); err != nil {
		return nil, err
	}
	return b, b.meet()
}

// meet finds the kernel's files of the process that runs now.
func (b *box) meet() (err error) {
	b.began = b.inspect()
	if b.kernel, err = kernelOf(b.began.State.Pid); err != nil {
		return fmt.Errorf("%s: %w", b.name, err)
	}
	return nil
}

func (b *box) remove() {
	err := b.host.engine.call("DELETE", "/containers/"+b.id+"?force=1&v=1", nil, nil)
	if err != nil && !strings.Contains(err.Error(), "404") {
		b.host.t.Errorf("left behind: %v", err)
	}
}

func (b *box) inspect() (i inspected) {
	b.host.t.Helper()
	if err := b.host.engine.call("GET", "/containers/"+b.id+"/json", nil, &i); err != nil {
		b.host.t.Error(err)
	}
	return i
}

// undisturbed fails unless the container is the one that was started, alive.
func (b *box) undisturbed() {
	b.host.t.Helper()
	i, was := b.inspect(), b.began
	if i.RestartCount != was.RestartCount || i.State.StartedAt != was.State.StartedAt || !i.State.Running || i.State.OOMKilled {
		b.host.t.Errorf("%s was disturbed: was %+v, is %+v", b.name, was.State, i.State)
	}
	if n := b.kernel.oomKills(); n > 0 {
		b.host.t.Errorf("%s: %d OOM kills", b.name, n)
	}
}
