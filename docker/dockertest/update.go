package dockertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/knowledge"
)

// Update is one update request that reached the Engine, in its units.
type Update struct {
	ID                      knowledge.ContainerID
	At                      time.Time
	NanoCPUs, Quota, Period int64
	Shares, Memory, Swap    int64
	RestartPolicy           bool // it had one, which it must not
	Status                  int
	Overlapped              bool // with another update of the same container
}

// Updates are all so far.
func (e *Engine) Updates() []Update {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Update(nil), e.updates...)
}

// Record is the Engine's record of a container's limits.
func (e *Engine) Record(id knowledge.ContainerID) (l knowledge.Limits) {
	e.with(id, func(b *container) {
		k := cgroup{quota: -1, period: 100_000}
		k.cpu(b.record)
		l = k.limits()
		l.Shares, l.Memory, l.MemorySwap = b.record.Shares, knowledge.Bytes(b.record.Memory), knowledge.Bytes(b.record.Swap)
		switch {
		case b.record.NanoCPUs > 0:
			l.Dialect = docker.CPUNano
		case b.record.Quota != 0 || b.record.Period > 0:
			l.Dialect = docker.CPUQuota
		}
	})
	return l
}

// refusal is an answer of the API that is not 2xx.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func no(status int, format string, a ...any) *refusal {
	return &refusal{status, fmt.Sprintf(format, a...)}
}

func (a api) update(id string, body []byte) (any, *refusal) {
	var q struct {
		NanoCpus, CpuQuota, CpuPeriod, CpuShares int64
		Memory, MemorySwap                       int64
		RestartPolicy                            struct{ Name string }
	}
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, no(http.StatusBadRequest, "%v", err)
	}
	u := Update{
		At: time.Now(), NanoCPUs: q.NanoCpus, Quota: q.CpuQuota, Period: q.CpuPeriod,
		Shares: q.CpuShares, Memory: q.Memory, Swap: q.MemorySwap, RestartPolicy: q.RestartPolicy.Name != "",
		Status: http.StatusOK,
	}
	refused := a.verify(&u)
	b := (*container)(nil)
	if refused == nil {
		b, refused = a.find(id)
	}
	if refused == nil {
		u.ID, u.Overlapped = b.id, b.updating > 1
		refused = a.apply(b, &u)
	}
	if refused != nil {
		u.Status = refused.status
	}
	if u.NanoCPUs|u.Quota|u.Period|u.Shares|u.Memory|u.Swap != 0 { // else it asks whether updates are allowed
		a.updates = append(a.updates, u)
	}
	if refused != nil {
		return nil, refused
	}
	return map[string]any{"Warnings": nil}, nil
}

// verify is daemon_unix.go, verifyPlatformContainerResources.
func (a api) verify(u *Update) *refusal {
	bad := func(format string, a ...any) *refusal { return no(http.StatusBadRequest, format, a...) }
	switch {
	case u.Memory != 0 && u.Memory < 6<<20:
		return bad("Minimum memory limit allowed is 6MB")
	case u.Memory > 0 && u.Swap > 0 && u.Swap < u.Memory:
		return bad("Minimum memoryswap limit should be larger than memory limit, see usage")
	case u.NanoCPUs > 0 && (u.Period > 0 || u.Quota > 0):
		return bad("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case u.NanoCPUs < 0 || u.NanoCPUs > int64(a.o.NCPU)*1e9:
		return bad("range of CPUs is from 0.01 to %[1]d.00, as there are only %[1]d CPUs available", a.o.NCPU)
	case u.Period != 0 && (u.Period < 1000 || u.Period > 1_000_000):
		return bad("CPU cfs period can not be less than 1ms (i.a. 1000) or larger than 1s (i.a. 1000000)")
	case u.Quota > 0 && u.Quota < 1000:
		return bad("CPU cfs quota can not be less than 1ms (i.a. 1000)")
	}
	return nil
}

// apply is container_unix.go, UpdateContainer, then runc.
func (a api) apply(b *container, u *Update) *refusal {
	conflict := func(text string) *refusal {
		return no(http.StatusConflict, "Cannot update container %s: Conflicting options: %s", b.id, text)
	}
	old := b.record
	switch {
	case u.NanoCPUs > 0 && old.Period > 0:
		return conflict("Nano CPUs cannot be updated as CPU Period has already been set")
	case u.NanoCPUs > 0 && old.Quota > 0:
		return conflict("Nano CPUs cannot be updated as CPU Quota has already been set")
	case u.Period > 0 && old.NanoCPUs > 0:
		return conflict("CPU Period cannot be updated as NanoCPUs has already been set")
	case u.Quota > 0 && old.NanoCPUs > 0:
		return conflict("CPU Quota cannot be updated as NanoCPUs has already been set")
	case u.Memory > old.Swap && u.Memory != 0 && u.Swap == 0:
		return conflict("Memory limit should be smaller than already set memoryswap limit, " +
			"update the memoryswap at the same time")
	}
	b.record = merged(old, u)
	if !b.running() {
		b.before = old
		return nil
	}
	a.adopt(b)
	if r := a.runc(b, u); r != nil {
		b.record = old
		return no(r.status, "Cannot update container %s: %s", b.id, r.text)
	}
	if a.o.Driver == "systemd" { // it puts the whole record in force
		started := load(b.record)
		b.k.quota, b.k.period, b.k.memory, b.k.swap, b.k.high = started.quota, started.period, started.memory, started.swap, 0
	}
	b.before = old
	a.writeLimits(b)
	a.emit(b, "update")
	return nil
}

func merged(r record, u *Update) record {
	set := func(to *int64, v int64) {
		if v != 0 {
			*to = v
		}
	}
	set(&r.NanoCPUs, u.NanoCPUs)
	set(&r.Quota, u.Quota)
	set(&r.Period, u.Period)
	set(&r.Shares, u.Shares)
	set(&r.Memory, u.Memory)
	set(&r.Swap, u.Swap)
	return r
}

// runc writes memory first, then CPU, and does not undo the first when the second fails:
// an update is not atomic (measured with runc 1.1.5 on v1).
func (a api) runc(b *container, u *Update) *refusal {
	failed := func(format string, a ...any) *refusal {
		return no(http.StatusInternalServerError,
			"OCI runtime update failed: runc did not terminate successfully: exit status 1: "+format, a...)
	}
	k := &b.k
	if u.Memory > 0 {
		to := u.Memory / page * page
		if a.o.Cgroup == 1 && k.anon > to {
			return failed("unable to set memory limit to %d (current usage: %d, peak usage: %d)", u.Memory, k.anon, k.anon)
		}
		k.memory = to
		if u.Swap > 0 { // -1 is not passed on
			k.swap = u.Swap / page * page
		}
		a.writeLimits(b)
		kills := b.oomKills
		a.charge(b, k.anon, k.cache)
		if b.oomKills > kills && a.o.KilledIsError {
			return failed("container not running")
		}
		if !b.running() {
			return nil
		}
	}
	if u.Shares > 0 {
		k.shares = min(max(u.Shares, 2), 262144)
	}
	next := *k
	next.cpu(record{NanoCPUs: u.NanoCPUs, Quota: u.Quota, Period: u.Period})
	if u.NanoCPUs+u.Quota != 0 && next.quota >= 0 && next.quota < 1000 {
		return failed("failed to write \"%d\" to \"cpu.cfs_quota_us\": invalid argument", next.quota)
	}
	*k = next
	return nil
}

// find resolves a reference as the Engine does: id, name, then a prefix of one.
func (a api) find(ref string) (*container, *refusal) {
	if b, ok := a.containers[knowledge.ContainerID(ref)]; ok {
		return b, nil
	}
	var found *container
	for id, b := range a.containers {
		switch {
		case b.spec.Name == ref:
			return b, nil
		case strings.HasPrefix(string(id), ref):
			found = b
		}
	}
	if found == nil || ref == "" {
		return nil, no(http.StatusNotFound, "No such container: %s", ref)
	}
	return found, nil
}
