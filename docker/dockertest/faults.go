package dockertest

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// The operations that a Fault or Calls may name.
const (
	Ping    = "ping"
	Info    = "info"
	Version = "version"
	List    = "list"
	Inspect = "inspect"
	UpdateC = "update"
	Stats   = "stats"
	Events  = "events"
	Create  = "create"
	StartC  = "start"
	StopC   = "stop"
	Restart = "restart"
	RemoveC = "remove"
	Import  = "import"
	Image   = "image"
	Tag     = "tag"
	RemoveI = "remove_image"
	CreateN = "create_network"
	RemoveN = "remove_network"
	Network = "network"
	Connect = "connect_network"
)

// Fault is an error in the handling of requests. The fields that are set take effect in
// their order.
type Fault struct {
	Op    string // one of the operations; "": all
	Times int    // how often; 0: until Heal
	// Delay: the answer comes later. Hang: it never comes (a stopped Engine).
	Delay time.Duration
	Hang  bool
	// Vanish: the container that the request names is removed just before.
	Vanish bool
	// StopFirst: the container that the request names exits just before.
	StopFirst bool
	// Stale: an inspect returns the record before the last update.
	Stale bool
	// Stopped: after Delay, or Heal, the request is executed even if the client gave up: an
	// Engine that was stopped, and goes on.
	Stopped bool
	// After: the request is executed first.
	After bool
	// Late: the request is executed, and so much later answered.
	Late time.Duration
	// Drop: the connection is closed without an answer.
	Drop bool
	// Status, with Message as the Engine's JSON; Body, with Type, is sent as it is.
	Status     int
	Message    string
	Body, Type string
	// Truncate: half of the regular answer, then nothing.
	Truncate bool
}

// Inject adds a fault. The oldest one that matches a request takes effect.
func (e *Engine) Inject(f Fault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = append(e.faults, &f)
}

// Heal removes all faults; waiting requests go on.
func (e *Engine) Heal() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = nil
	close(e.healed)
	e.healed = make(chan struct{})
}

// Calls counts the requests of one operation that arrived.
func (e *Engine) Calls(op string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls[op]
}

// nextFault is the fault for a request, and counts it. The lock is held.
func (a api) nextFault(op string) *Fault {
	for i, f := range a.faults {
		if f.Op != "" && f.Op != op {
			continue
		}
		hit := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				a.faults = append(a.faults[:i:i], a.faults[i+1:]...)
			}
		}
		return &hit
	}
	return nil
}

// applyFault applies a fault around the regular handler.
func (a api) applyFault(f *Fault, w http.ResponseWriter, r *http.Request, q *request) {
	if f.Delay > 0 || f.Hang {
		if !a.wait(f, r) {
			panic(http.ErrAbortHandler)
		}
	}
	a.mu.Lock()
	if b, refused := a.find(q.id); refused == nil && q.id != "" {
		switch {
		case f.Vanish:
			a.remove(b)
		case f.StopFirst:
			a.end(b, 137)
		}
	}
	q.stale = f.Stale
	a.mu.Unlock()
	truth := httptest.NewRecorder()
	if f.After || f.Truncate || f.Late > 0 {
		a.handle(truth, r, q)
	}
	if f.Late > 0 && !a.wait(&Fault{Delay: f.Late}, r) {
		panic(http.ErrAbortHandler)
	}
	switch {
	case f.Drop:
		panic(http.ErrAbortHandler)
	case f.Status != 0 && f.Body == "":
		fail(w, no(f.Status, "%s", f.Message))
	case f.Body != "":
		w.Header().Set("Content-Type", f.Type)
		w.WriteHeader(max(f.Status, http.StatusOK))
		_, _ = w.Write([]byte(f.Body))
	case f.Truncate:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(truth.Body.Bytes()[:truth.Body.Len()/2])
	case f.After, f.Late > 0:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(truth.Code)
		_, _ = w.Write(truth.Body.Bytes())
	default:
		a.handle(w, r, q)
	}
}

// wait delays an answer; false: the client, the Engine or the fault ended before.
func (a api) wait(f *Fault, r *http.Request) bool {
	a.mu.Lock()
	down, healed := a.down, a.healed
	a.mu.Unlock()
	var late <-chan time.Time
	if !f.Hang {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		late = timer.C
	}
	gone := r.Context().Done()
	if f.Stopped {
		gone = nil
	}
	select {
	case <-late:
		return true
	case <-healed:
		return true
	case <-gone:
	case <-down:
	}
	return false
}

// DropEvents drops the events that occur while on is true.
func (e *Engine) DropEvents(on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dropping = on
}

// EndEvents closes the open event streams.
func (e *Engine) EndEvents() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for l := range e.listeners {
		close(l)
		delete(e.listeners, l)
	}
}

// Listeners counts the open event streams.
func (e *Engine) Listeners() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.listeners)
}

// Backlog counts the events that wait for listeners to take them.
func (e *Engine) Backlog() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for l := range e.listeners {
		n += len(l)
	}
	return n
}

// Image reports whether an image was imported and not removed.
func (e *Engine) Image(tag string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.images[tag] != ""
}

// Network is which containers are on a network, with their aliases; false: it does
// not exist.
func (e *Engine) Network(name string) (on map[knowledge.ContainerID][]string, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, ok := e.networks[name]
	if !ok {
		return nil, false
	}
	return maps.Clone(n.on), true
}

// Containers are the ids of all, in no order.
func (e *Engine) Containers() (ids []knowledge.ContainerID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range e.containers {
		ids = append(ids, id)
	}
	return ids
}
