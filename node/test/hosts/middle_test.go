package hosts

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

// moment is when a daemon dies: it has written down what it does, and the Engine
// has not heard of it, or has done it and nobody has heard that.
type moment string

const (
	beforeCall moment = "before the Engine's call"
	afterCall  moment = "after the Engine's call"
)

// between stands between a daemon and its Engine. It kills the daemon at a moment
// of one change, which no timing could hit.
type between struct {
	h    *host
	back *httputil.ReverseProxy

	mu     sync.Mutex
	trap   moment // "": none
	id     string
	memory int64
	sprung chan struct{}
	seen   int // changes to that limit, the one that killed included
}

// between puts one in front of the host's Engine, for the next lives.
func (h *host) between() *between {
	h.t.Helper()
	at, _ := url.Parse("http://docker")
	w := &between{h: h, back: httputil.NewSingleHostReverseProxy(at)}
	w.back.FlushInterval, w.back.Transport = -1, h.engine.Transport() // events are a stream
	w.back.ErrorHandler = func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) }
	l, err := net.Listen("unix", h.path("between.sock"))
	if err != nil {
		h.t.Fatal(err)
	}
	s, over := &http.Server{Handler: w, ReadHeaderTimeout: time.Minute}, make(chan struct{})
	go func() { defer close(over); _ = s.Serve(l) }()
	h.t.Cleanup(func() { _ = s.Close(); <-over })
	h.env = append(h.env, "EFFISCALE_DOCKER_HOST=unix://"+h.path("between.sock"))
	return w
}

// set waits for the change of a container's memory to some limit.
func (w *between) set(at moment, b *box, memory int64) (sprung <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trap, w.id, w.memory, w.seen, w.sprung = at, b.id, memory, 0, make(chan struct{})
	return w.sprung
}

func (w *between) changes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// meets counts a change to the limit, and takes the trap away.
func (w *between) meets(path string, body []byte) moment {
	var change struct{ Memory int64 }
	w.mu.Lock()
	defer w.mu.Unlock()
	if !strings.Contains(path, w.id) || json.Unmarshal(body, &change) != nil || w.id == "" || change.Memory != w.memory {
		return ""
	}
	at := w.trap
	w.trap = ""
	w.seen++
	return at
}

func (w *between) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/update") {
		w.back.ServeHTTP(rw, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	at := w.meets(r.URL.Path, body)
	if at == "" {
		w.back.ServeHTTP(rw, r)
		return
	}
	if at == afterCall {
		w.back.ServeHTTP(httptest.NewRecorder(), r)
	}
	w.h.daemon().kill()
	close(w.sprung)
	panic(http.ErrAbortHandler)
}

// TestRow2Row3KilledInTheMiddle kills an owner between the record of a change and
// the Engine's call, and between the call and its answer. Others plan in its
// place; its next life finds out what became of the change, closes the record as
// what is true, and does nothing twice.
func TestRow2Row3KilledInTheMiddle(t *testing.T) {
	f := newFleet(t, 3)
	doors := map[*host]*between{}
	for _, h := range f.hosts {
		doors[h] = h.between()
	}
	f.start().watch()
	for i := range rounds(2, 6) {
		at, service := []moment{beforeCall, afterCall}[i%2], services()[i%len(services())]
		owner := f.ownerOf(service)
		f.middle(doors[owner], f.on(service, owner)[0], at, int64(80+4*i)*MiB)
		owner.stop() // three starts without an orderly end are a crash loop
		owner.start()
		f.settle(time.Minute)
	}
	f.intact()
}

func (f *fleet) middle(door *between, b *box, at moment, want int64) {
	t, owner := f.t, b.host
	t.Helper()
	sprung, asked := door.set(at, b, want), make(chan error, 1)
	go func() {
		_, err := api.OpScale.Call(t.Context(), owner.Client, api.ScaleRequest{Container: b.name, Memory: want})
		asked <- err
	}()
	select {
	case <-sprung:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: the Engine was not asked for %d MiB: %v", b.name, want/MiB, <-asked)
	}
	died := time.Now()
	if err := <-asked; err == nil {
		t.Errorf("%s: a change was acknowledged by a daemon that was killed %s", b.name, at)
	}
	took := f.planned(died, 30*time.Second, f.without(owner)...)
	figure(t, "an owner killed %s: planned for by another node after %v", at, took.Round(10*time.Millisecond))
	// The kernel's file is written before the Engine's call, which the next start repeats
	// where the Engine did not get it.
	holds, result, sent := want, "applied", 1
	if at == beforeCall {
		sent = 2
	}
	if is := b.kernel.Memory(); is != holds {
		t.Errorf("%s, killed %s: %d bytes, want %d", b.name, at, is, holds)
	}
	owner.start()
	eventually(t, 20*time.Second, "the Engine has it on record",
		func() bool { return b.inspect().HostConfig.Memory == want })
	if !waitFor(20*time.Second, func() bool { return len(f.records(b, want, result)) == 1 }) {
		t.Fatalf("%s, killed %s: the record is not closed as %s: %+v", b.name, at, result, b.host.changes(b.name))
	}
	hold(t, 5*time.Second, "nothing is done twice", func() bool {
		return door.changes() == sent &&
			b.kernel.Memory() == holds
	})
	if all := f.records(b, want, ""); len(all) != 1 {
		t.Errorf("%s, killed %s: %d records of one change: %+v", b.name, at, len(all), all)
	}
}

// records are those of a change of memory to a limit, with some result or, with
// "", with any.
func (f *fleet) records(b *box, to int64, result string) (all []api.Change) {
	f.t.Helper()
	for _, c := range b.host.changes(b.name) {
		if c.Resource == "memory" && c.To == to && !c.Start && (result == "" || c.Result == result) {
			all = append(all, c)
		}
	}
	return all
}

// TestRow49FullDisk: a host without room on its disk goes on obeying and scaling. It
// owns nothing more, for it cannot keep a term, and obeys nobody new, for it could
// forget it; that comes with the room.
func TestRow49FullDisk(t *testing.T) {
	needAll(t)
	f := newFleet(t, 3)
	full := f.hosts[2]
	full.smallDisk(8 * MiB)
	f.start().watch()
	b := f.on("mail", full)[0]
	ballast := full.fill()
	eventually(t, 40*time.Second, "a full disk is said", func() bool {
		_, err := api.OpScale.Call(t.Context(), full.Client,
			api.ScaleRequest{Container: b.name, Memory: 64*MiB + int64(time.Now().UnixNano()%1000)*4096})
		if err != nil {
			t.Errorf("a request on a full disk: %v", err)
		}
		st, err := full.status()
		return err == nil && st.Node.Store != "ok"
	})
	f.steady(15*time.Second, "a full disk")
	f.demand(full)
	// While an owner returns, the other one may still own what it has to give back.
	owners := slices.DeleteFunc(f.without(full), func(h *host) bool { return !f.owns(h) })
	for _, owner := range owners {
		at := time.Now()
		owner.daemon().kill()
		took := f.planned(at, 30*time.Second, f.without(owner, full)...)
		figure(t, "an owner killed while another disk is full: planned for by another node after %v", took.Round(10*time.Millisecond))
		f.demand(full)
		owner.start()
		owner.stop()
		owner.start()
		eventually(t, 30*time.Second, "it is back", func() bool { return f.owns(owner) })
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "with room again it recovers by itself", func() bool {
		st, err := full.status()
		return err == nil && st.Node.Store == "ok"
	})
	f.settle(time.Minute)
	f.intact()
}

// owns: some host obeys that one.
func (f *fleet) owns(h *host) bool {
	short := h.short()
	for _, b := range f.on("", f.running()...) {
		if is, ok := b.inForce(); ok && is.owner == short {
			return true
		}
	}
	return false
}
