package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// engine speaks to the Engine in raw HTTP: a witness, and a person's own hand.
type engine struct {
	socket string
	http   *http.Client
}

func newEngine() *engine {
	socket := strings.TrimPrefix(os.Getenv("DOCKER_HOST"), "unix://")
	if socket == "" {
		socket = "/var/run/docker.sock"
	}
	return &engine{socket, &http.Client{Transport: &http.Transport{
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

func (e *engine) importImage(tag string, layer []byte) error {
	repo, version, _ := strings.Cut(tag, ":")
	return e.call("POST", "/images/create?fromSrc=-&repo="+repo+"&tag="+version, layer, nil)
}

func (e *engine) removeImage(tag string) {
	if err := e.call("DELETE", "/images/"+tag+"?force=1", nil, nil); err != nil {
		fmt.Fprintln(os.Stderr, "left behind:", err)
	}
}

// sweep removes what a killed test run left behind.
func (e *engine) sweep() {
	var all []struct {
		ID     string `json:"Id"`
		Image  string
		Labels map[string]string
	}
	filter := url.QueryEscape(`{"label":["` + markRun + `"]}`)
	if e.call("GET", "/containers/json?all=1&filters="+filter, nil, &all) != nil {
		return
	}
	for _, c := range all {
		if !processLives(c.Labels[markRun]) {
			_ = e.call("DELETE", "/containers/"+c.ID+"?force=1&v=1", nil, nil)
			_ = e.call("DELETE", "/images/"+c.Image+"?force=1", nil, nil)
		}
	}
}

// spec is a container to be made.
type spec struct {
	do            string // arguments of the load program
	cpus          float64
	quota, period int64 // the other dialect, microseconds
	memory, swap  int64 // swap as Docker counts: memory plus swap
	labels        map[string]string
	stranger      bool // without effiscale.enable
	network       bool
	restart       string // restart policy
}

// box is a running container.
type box struct {
	t        *testing.T
	id, name string
	kernel   kernel
}

const MiB = 1 << 20

// hostConfig is the Engine's own form of a container's limits.
type hostConfig struct {
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

type inspected struct {
	ID    string `json:"Id"`
	State struct {
		Status    string
		Running   bool
		OOMKilled bool
		Pid       int
		StartedAt string
	}
	RestartCount    int
	HostConfig      hostConfig
	NetworkSettings struct{ IPAddress string }
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

// box makes and starts a container that this test's daemons see.
func (g group) box(t *testing.T, name string, s spec) *box {
	t.Helper()
	b := &box{t: t, name: g.name + "-" + name}
	labels := map[string]string{mark: g.name, markRun: fmt.Sprint(os.Getpid())}
	if !s.stranger {
		labels["effiscale.enable"] = "true"
	}
	for k, v := range s.labels {
		labels[k] = v
	}
	host := map[string]any{"Memory": s.memory, "MemorySwap": s.swap, "NanoCpus": int64(s.cpus * 1e9), "NetworkMode": "none"}
	if s.quota > 0 {
		host["CpuQuota"], host["CpuPeriod"] = s.quota, s.period
	}
	if s.network {
		host["NetworkMode"] = "bridge"
	}
	if s.restart != "" {
		host["RestartPolicy"] = map[string]any{"Name": s.restart}
	}
	var made struct {
		ID string `json:"Id"`
	}
	body := map[string]any{"Image": rig.image, "Cmd": append([]string{"/load"}, strings.Fields(s.do)...), "Labels": labels, "HostConfig": host}
	if err := rig.docker.call("POST", "/containers/create?name="+b.name, body, &made); err != nil {
		t.Fatal(err)
	}
	b.id = made.ID
	t.Cleanup(b.remove)
	b.start()
	return b
}

func (b *box) start() {
	b.t.Helper()
	b.do("POST", "/start", nil)
	b.meet()
}

// meet finds the kernel's files of the process that runs now.
func (b *box) meet() {
	b.t.Helper()
	i := b.inspect()
	k, err := kernelOf(i.State.Pid)
	if err != nil {
		b.t.Fatalf("%s: %v", b.name, err)
	}
	b.kernel = k
}

func (b *box) do(method, path string, body any) {
	b.t.Helper()
	if err := rig.docker.call(method, "/containers/"+b.id+path, body, nil); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) remove() {
	err := rig.docker.call("DELETE", "/containers/"+b.id+"?force=1&v=1", nil, nil)
	if err != nil && !strings.Contains(err.Error(), "404") {
		b.t.Errorf("left behind: %v", err)
	}
}

func (b *box) inspect() (i inspected) {
	b.t.Helper()
	if err := rig.docker.call("GET", "/containers/"+b.id+"/json", nil, &i); err != nil {
		b.t.Fatal(err)
	}
	return i
}

// update is what `docker update` sends.
func (b *box) update(fields map[string]any) { b.t.Helper(); b.do("POST", "/update", fields) }

// same fails unless the container is the one that was started, alive.
func (b *box) same(was inspected) {
	b.t.Helper()
	i := b.inspect()
	if i.RestartCount != was.RestartCount || i.State.StartedAt != was.State.StartedAt || !i.State.Running || i.State.OOMKilled {
		b.t.Errorf("%s was disturbed: was %+v, is %+v", b.name, was.State, i.State)
	}
}

// agree waits until the Engine tells what the kernel holds, within 1 %.
func (b *box) agree(within time.Duration) {
	b.t.Helper()
	var h hostConfig
	ok := waitFor(within, func() bool {
		h = b.inspect().HostConfig
		return near(h.cores(), b.kernel.quota()) && (h.Memory == 0 || h.Memory == b.kernel.memory())
	})
	if !ok {
		b.t.Errorf("%s: the Engine says %.3f cores and %d bytes, the kernel %.3f and %d", b.name, h.cores(), h.Memory, b.kernel.quota(), b.kernel.memory())
	}
}

func near(a, b float64) bool { return max(a-b, b-a) <= max(0.01*b, 0.011) }
