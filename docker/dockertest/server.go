package dockertest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// api answers requests.
type api struct{ *Engine }

// request is one parsed call.
type request struct {
	op    string
	id    string // of the container, image or network
	stale bool
}

// route finds the operation; "": it is unknown.
func route(method, path string) (q request) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	at := func(i int) string {
		if i < len(parts) {
			return parts[i]
		}
		return ""
	}
	switch key := method + " " + at(0) + " " + strconv.Itoa(len(parts)) + " " + parts[len(parts)-1]; {
	case at(0) == "_ping":
		q.op = Ping
	case key == "GET info 1 info":
		q.op = Info
	case key == "GET version 1 version":
		q.op = Version
	case key == "GET events 1 events":
		q.op = Events
	case key == "GET containers 2 json":
		q.op = List
	case key == "POST containers 2 create":
		q.op = Create
	case key == "POST images 2 create":
		q.op = Import
	case at(0) == "images":
		q.op, q.id = routeImage(method, parts[1:])
	case at(0) == "networks":
		q.op, q.id = routeNetwork(method, parts[1:])
	case method == http.MethodDelete && at(0) == "containers" && len(parts) == 2:
		q.op, q.id = RemoveC, at(1)
	case at(0) == "containers" && len(parts) == 3:
		q.id = at(1)
		q.op = map[string]string{
			"GET json": Inspect, "GET stats": Stats, "POST update": UpdateC,
			"POST start": StartC, "POST stop": StopC, "POST restart": Restart,
		}[method+" "+at(2)]
	}
	return q
}

// serve handles a request: version, faults, operation.
func (a api) serve(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	version := ""
	if rest, ok := strings.CutPrefix(path, "/v"); ok && strings.ContainsAny(rest[:min(len(rest), 1)], "0123456789") {
		version, path, _ = strings.Cut(rest, "/")
	}
	q := route(r.Method, path)
	a.mu.Lock()
	if a.server == nil { // a connection that was accepted while the socket closed
		a.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	a.handlers.Add(1)
	defer a.handlers.Done()
	a.calls[q.op]++
	f := a.nextFault(q.op)
	api := a.o.API
	a.mu.Unlock()
	w.Header().Set("Api-Version", api)
	w.Header().Set("Ostype", "linux")
	switch {
	case version != "" && newer(version, api):
		fail(w, no(http.StatusBadRequest, "client version %s is too new. Maximum supported API version is %s", version, api))
	case a.o.Podman && q.op == UpdateC:
		http.NotFound(w, r)
	case q.op == "":
		fail(w, no(http.StatusNotFound, "page not found"))
	default:
		defer a.updating(&q)()
		if f != nil {
			a.applyFault(f, w, r, &q)
			return
		}
		a.handle(w, r, &q)
	}
}

// updating counts the updates of one container that are in progress.
func (a api) updating(q *request) (done func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, refused := a.find(q.id)
	if q.op != UpdateC || refused != nil {
		return func() {}
	}
	b.updating++
	return func() {
		a.mu.Lock()
		b.updating--
		a.mu.Unlock()
	}
}

func newer(a, b string) bool {
	num := func(s string) int {
		major, minor, _ := strings.Cut(s, ".")
		x, _ := strconv.Atoi(major)
		y, _ := strconv.Atoi(minor)
		return x*1000 + y
	}
	return num(a) > num(b)
}

func (a api) handle(w http.ResponseWriter, r *http.Request, q *request) {
	switch q.op {
	case Events:
		a.serveEvents(w, r)
		return
	case Ping:
		_, _ = io.WriteString(w, "OK")
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<20))
	if err != nil {
		fail(w, no(http.StatusBadRequest, "%v", err))
		return
	}
	a.mu.Lock()
	status, answer, refused := a.do(r, q, body)
	a.mu.Unlock()
	if refused != nil {
		fail(w, refused)
		return
	}
	send(w, status, answer)
}

// do executes an operation. The lock is held.
func (a api) do(r *http.Request, q *request, body []byte) (status int, answer any, refused *refusal) {
	switch q.op {
	case Info:
		return http.StatusOK, a.info(), nil
	case Version:
		return http.StatusOK, a.version(), nil
	case List:
		return http.StatusOK, a.list(r.URL.Query().Get("all") == "1"), nil
	case UpdateC:
		answer, refused = a.update(q.id, body)
		return http.StatusOK, answer, refused
	case Create:
		return a.create(r.URL.Query().Get("name"), body)
	case Import, Image, Tag, RemoveI:
		return a.doImage(r, q)
	case CreateN, RemoveN, Network, Connect:
		return a.doNetwork(q, body)
	}
	b, refused := a.find(q.id)
	if refused != nil {
		return 0, nil, refused
	}
	switch q.op {
	case Inspect:
		return http.StatusOK, a.inspect(b, q.stale), nil
	case Stats:
		return http.StatusOK, a.stats(b), nil
	case StartC, StopC:
		if (q.op == StartC) == b.running() {
			return http.StatusNotModified, nil, nil
		}
		if q.op == StartC {
			if r := b.record; r.Memory > 0 && r.Memory < r.Reservation {
				return 0, nil, no(http.StatusBadRequest, "Minimum memory limit can not be less than memory reservation limit, "+
					"see usage")
			}
			a.begin(b)
		} else {
			a.stop(b, 0)
		}
	case Restart:
		a.stop(b, 0)
		a.begin(b)
	case RemoveC:
		a.remove(b)
	}
	return http.StatusNoContent, nil, nil
}

func (a api) create(name string, body []byte) (int, any, *refusal) {
	var c struct {
		Image      string
		Labels     map[string]string
		HostConfig hostConfig
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return 0, nil, no(http.StatusBadRequest, "%v", err)
	}
	if a.image(c.Image) == "" {
		return 0, nil, no(http.StatusNotFound, "No such image: %s", c.Image)
	}
	for _, b := range a.containers {
		if b.spec.Name == name {
			return 0, nil, no(http.StatusConflict, "Conflict. The container name %q is already in use by container %q.",
				"/"+name, b.id)
		}
	}
	b := a.make(Spec{Name: name, Image: c.Image, Labels: c.Labels})
	h := c.HostConfig
	b.record = record{NanoCPUs: h.NanoCpus, Quota: h.CpuQuota, Period: h.CpuPeriod, Shares: h.CpuShares, Memory: h.Memory,
		Swap: h.MemorySwap}
	if h.Memory > 0 && h.MemorySwap == 0 {
		b.record.Swap = 2 * h.Memory
	}
	b.before = b.record
	return http.StatusCreated, map[string]any{"Id": b.id, "Warnings": []string{}}, nil
}

func (a api) version() any {
	name := "Engine"
	if a.o.Podman {
		name = "Podman Engine"
	}
	return map[string]any{"Version": "20.10.24", "ApiVersion": a.o.API, "MinAPIVersion": "1.12",
		"Components": []map[string]any{{"Name": name, "Version": "20.10.24"}}}
}

func (a api) info() any {
	security := []string{"name=seccomp,profile=default"}
	return map[string]any{
		"Name": "fake", "NCPU": a.o.NCPU, "MemTotal": a.o.Memory, "ServerVersion": "20.10.24", "KernelVersion": "6.1.0",
		"CgroupVersion": strconv.Itoa(a.o.Cgroup), "CgroupDriver": a.o.Driver, "SecurityOptions": security,
		"SwapLimit": true, "LiveRestoreEnabled": a.o.LiveRestore, "DockerRootDir": "/var/lib/docker", "OSType": "linux",
	}
}

func (a api) list(all bool) any {
	out := []map[string]any{}
	for _, b := range sorted(a.containers) {
		if !all && !b.running() {
			continue
		}
		status := "Exited (" + strconv.Itoa(b.exit) + ") 2 minutes ago"
		if b.running() {
			status = "Up 2 minutes"
			switch b.spec.Health {
			case "":
			case "starting":
				status += " (health: starting)"
			default:
				status += " (" + b.spec.Health + ")"
			}
		}
		out = append(out, map[string]any{
			"Id": b.id, "Names": []string{"/" + b.spec.Name}, "Image": b.spec.Image, "ImageID": digest(b.spec.Image),
			"Command": strings.Join(append([]string{"app"}, b.spec.Args...), " "), "Created": b.made.Unix(),
			"Labels": b.spec.Labels, "State": b.state, "Status": status,
		})
	}
	return out
}

// digest is the digest of an image, made from its name.
func digest(image string) string {
	if strings.HasPrefix(image, "sha256:") {
		return image
	}
	sum := sha256.Sum256([]byte(image))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// hostConfig holds limits in the form of the API.
type hostConfig struct {
	NanoCpus, CpuQuota, CpuPeriod, CpuShares, Memory, MemorySwap, MemoryReservation int64
	CgroupParent, Runtime                                                           string
	DeviceRequests                                                                  []map[string]any `json:",omitempty"`
}

func (a api) inspect(b *container, stale bool) any {
	r := b.record
	if stale {
		r = b.before
	}
	h := hostConfig{r.NanoCPUs, r.Quota, r.Period, r.Shares, r.Memory, r.Swap, r.Reservation,
		b.spec.CgroupParent, b.spec.Runtime, nil}
	if h.Runtime == "" {
		h.Runtime = "runc"
	}
	if b.spec.GPU {
		h.DeviceRequests = []map[string]any{{"Driver": "", "Count": -1, "Capabilities": [][]string{{"gpu"}}}}
	}
	state := map[string]any{
		"Status": b.state, "Running": b.running(), "Pid": b.pid, "ExitCode": b.exit, "OOMKilled": b.oomed,
		"StartedAt": b.started.UTC().Format(time.RFC3339Nano), "FinishedAt": "0001-01-01T00:00:00Z",
	}
	if b.spec.Health != "" {
		state["Health"] = map[string]any{"Status": b.spec.Health}
	}
	return map[string]any{
		"Id": b.id, "Created": b.made.UTC().Format(time.RFC3339Nano), "Path": "app",
		"Args": append([]string{}, b.spec.Args...), "Name": "/" + b.spec.Name,
		"Image": digest(b.spec.Image), "RestartCount": b.restarts, "State": state, "HostConfig": h,
		"Config": map[string]any{"Image": b.spec.Image, "Labels": b.spec.Labels},
		// As of an Engine without a bridge: nothing can be reached.
		"NetworkSettings": map[string]any{"Networks": map[string]any{"none": map[string]any{"IPAddress": ""}}},
	}
}

// stats is a one-shot answer, in the form of the cgroup version.
func (a api) stats(b *container) any {
	if !b.running() {
		return map[string]any{"read": "0001-01-01T00:00:00Z", "id": b.id}
	}
	a.adopt(b)
	k := &b.k
	limit := k.memory
	if limit == 0 {
		limit = int64(a.o.Memory)
	}
	memory := map[string]any{"usage": k.anon + k.cache, "limit": limit}
	op := "read"
	if a.o.Cgroup == 1 {
		op = "Read"
		memory["failcnt"] = k.max
		memory["stats"] = map[string]int64{"total_rss": k.anon, "total_cache": k.cache, "total_inactive_file": k.cache,
			"inactive_file": 1, "total_unevictable": 0}
	} else {
		memory["stats"] = map[string]int64{"anon": k.anon, "file": k.cache, "inactive_file": k.cache, "unevictable": 0,
			"shmem": 0}
	}
	return map[string]any{
		"read": time.Now().UTC().Format(time.RFC3339Nano), "id": b.id,
		"cpu_stats": map[string]any{
			"cpu_usage": map[string]any{"total_usage": int64(k.usage)},
			"throttling_data": map[string]any{"periods": k.periods, "throttled_periods": k.throttled,
				"throttled_time": int64(k.throttledTime)},
		},
		"memory_stats": memory,
		"pids_stats":   map[string]any{"current": 1},
		"blkio_stats": map[string]any{"io_service_bytes_recursive": []map[string]any{{"op": op, "value": 4096},
			{"op": "Total", "value": 4096}}},
		"networks": map[string]any{"eth0": map[string]any{"rx_bytes": 100, "tx_bytes": 200}},
	}
}

func sorted[K ~string](m map[K]*container) []*container {
	return slices.SortedFunc(maps.Values(m),
		func(a, b *container) int { return strings.Compare(a.spec.Name, b.spec.Name) })
}

func send(w http.ResponseWriter, status int, v any) {
	if v == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may have disconnected
}

func fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if r, ok := errors.AsType[*refusal](err); ok {
		status = r.status
	}
	send(w, status, map[string]string{"message": err.Error()})
}
