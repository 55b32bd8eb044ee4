package e2e

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/observer"
)

// engine is the Engine under test, as a witness and a person see it.
type engine struct{ *observer.Engine }

func (e *engine) importImage(tag string, layer []byte) error {
	repo, version, _ := strings.Cut(tag, ":")
	return e.Call("POST", "/images/create?fromSrc=-&repo="+repo+"&tag="+version, layer, nil)
}

func (e *engine) removeImage(tag string) {
	if err := e.Call("DELETE", "/images/"+tag+"?force=1", nil, nil); err != nil {
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
	if e.Call("GET", "/containers/json?all=1&filters="+filter, nil, &all) != nil {
		return
	}
	for _, c := range all {
		if !processLives(c.Labels[markRun]) {
			_ = e.Call("DELETE", "/containers/"+c.ID+"?force=1&v=1", nil, nil)
			_ = e.Call("DELETE", "/images/"+c.Image+"?force=1", nil, nil)
		}
	}
}

// spec is a container to be made.
type spec struct {
	do            string // arguments of the load program
	cpus          float64
	quota, period int64 // the other dialect, microseconds
	memory, swap  int64 // swap as Docker counts: memory plus swap
	reservation   int64
	labels        map[string]string
	stranger      bool // without effiscale.enable
	network       bool
	restart       string // restart policy
	parent        string // of its control group
}

// box is a running container.
type box struct {
	t        *testing.T
	id, name string
	kernel   observer.Kernel
}

const MiB = 1 << 20

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
	host := map[string]any{
		"Memory":      s.memory,
		"MemorySwap":  s.swap,
		"NanoCpus":    int64(s.cpus * 1e9),
		"NetworkMode": "none",
	}
	if s.quota > 0 {
		host["CpuQuota"], host["CpuPeriod"] = s.quota, s.period
	}
	if s.reservation > 0 {
		host["MemoryReservation"] = s.reservation
	}
	if s.network {
		host["NetworkMode"] = "bridge"
	}
	if s.parent != "" {
		host["CgroupParent"] = s.parent
	}
	if s.restart != "" {
		host["RestartPolicy"] = map[string]any{"Name": s.restart}
	}
	var made struct {
		ID string `json:"Id"`
	}
	body := map[string]any{
		"Image":      rig.image,
		"Cmd":        append([]string{"/load"}, strings.Fields(s.do)...),
		"Labels":     labels,
		"HostConfig": host,
	}
	if err := rig.docker.Call("POST", "/containers/create?name="+b.name, body, &made); err != nil {
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
	k, err := observer.KernelOf(i.State.Pid)
	if err != nil {
		b.t.Fatalf("%s: %v", b.name, err)
	}
	b.kernel = k
}

func (b *box) do(method, path string, body any) {
	b.t.Helper()
	if err := rig.docker.Call(method, "/containers/"+b.id+path, body, nil); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) remove() {
	if err := rig.docker.Remove(b.id); err != nil {
		b.t.Errorf("left behind: %v", err)
	}
}

func (b *box) inspect() observer.Container {
	b.t.Helper()
	i, err := rig.docker.Inspect(b.id)
	if err != nil {
		b.t.Fatal(err)
	}
	return i
}

// update is what `docker update` sends.
func (b *box) update(fields map[string]any) { b.t.Helper(); b.do("POST", "/update", fields) }

// same fails unless the container is the one that was started, alive.
func (b *box) same(was observer.Container) {
	b.t.Helper()
	if i := b.inspect(); !i.Undisturbed(was) {
		b.t.Errorf("%s was disturbed: was %+v, is %+v", b.name, was.State, i.State)
	}
}

// covered waits until the Engine's record, with which the container starts, is at least
// what is in force.
func (b *box) covered(within time.Duration) {
	b.t.Helper()
	var h observer.Limits
	ok := waitFor(within, func() bool {
		h = b.inspect().HostConfig
		q, m := b.kernel.Quota(), b.kernel.Memory()
		return (h.Cores() == 0 || h.Cores() > q && q > 0 || near(h.Cores(), q)) &&
			(h.Memory == 0 || m > 0 && h.Memory >= m)
	})
	if !ok {
		b.t.Errorf("%s starts with %.3f cores and %d bytes, in force are %.3f and %d", b.name, h.Cores(), h.Memory,
			b.kernel.Quota(), b.kernel.Memory())
	}
}

func near(a, b float64) bool { return max(a-b, b-a) <= max(0.01*b, 0.011) }
