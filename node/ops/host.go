package ops

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/view"
)

// host is what operations read and change on this host.
type host struct {
	name    string // of this node
	loop    *mape.Loop
	store   *store.Store
	machine func() knowledge.Host
	refused func() string // why the Engine changes no limit; "": it does
	log     zerolog.Logger
	reading chan struct{} // a token for the one reader of the history
}

// loopError gives an error of the loop its kind.
func loopError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mape.ErrUnknown):
		return api.Errorf(api.KindNotFound, "%v", err)
	case errors.Is(err, mape.ErrAmbiguous):
		return api.Errorf(api.KindBadRequest, "%v", err)
	case errors.Is(err, mape.ErrStopped):
		return notFinal{api.Errorf(api.KindUnavailable, "the daemon is stopping: try again in a few seconds")}
	}
	return err
}

func (h *host) containers(ctx context.Context) ([]mape.ContainerStatus, mape.Summary, error) {
	units, sum, err := h.loop.Containers(ctx)
	return units, sum, loopError(err)
}

func (h *host) find(ctx context.Context, ref string) (mape.ContainerStatus, error) {
	u, _, err := h.loop.Find(ctx, ref)
	return u, loopError(err)
}

// container is the name of the one container of this host that ref names: by its own name
// or id, or as a service with one container. prefix goes before the names in an error.
func (h *host) container(ctx context.Context, ref, prefix string) (string, error) {
	_, err := h.find(ctx, ref)
	if api.KindOf(err) != api.KindNotFound {
		return ref, err
	}
	units, _, listErr := h.containers(ctx)
	if listErr != nil {
		return ref, listErr
	}
	service, nameErr := canonical(units, ref)
	if nameErr != nil {
		return ref, nameErr
	}
	var names []string
	for i := range units {
		if units[i].Container.Service == knowledge.ServiceKey(service) {
			names = append(names, prefix+units[i].Container.Name)
		}
	}
	switch len(names) {
	case 0:
		return ref, err
	case 1:
		return names[0][len(prefix):], nil
	}
	return ref, api.Errorf(api.KindBadRequest, "service %q has %d containers on this host, name one: %s",
		ref, len(names), view.Names(names))
}

// service is the service of a container of this host.
func (h *host) service(ctx context.Context, ref string) (knowledge.ServiceKey, error) {
	u, err := h.find(ctx, ref)
	return u.Container.Service, err
}

// canonical is the name under which this host knows a service or a container: a service of
// Compose may be named without its project, or as earlier versions did, where that is one.
func (h *host) canonical(ctx context.Context, name string) (string, error) {
	units, _, err := h.containers(ctx)
	if err != nil {
		return name, err
	}
	return canonical(units, name)
}

func canonical(units []mape.ContainerStatus, name string) (string, error) {
	var keys []string
	if name == "" {
		return "", nil
	}
	for i := range units {
		c := &units[i].Container
		if c.Name == name || string(c.Service) == name {
			return name, nil
		}
		bare, joined := c.Service.Aliases()
		if key := string(c.Service); (bare == name || joined == name) && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	switch len(keys) {
	case 0:
		return name, nil
	case 1:
		return keys[0], nil
	}
	return name, api.Errorf(api.KindBadRequest, "%q is a service of several projects, name one: %s",
		name, view.Names(keys))
}

// earlier is the name under which an earlier version recorded a service of Compose; "": it
// has none, or it may be another's.
func (h *host) earlier(ctx context.Context, key knowledge.ServiceKey) knowledge.ServiceKey {
	_, joined := key.Aliases()
	if joined == "" {
		return ""
	}
	if name, err := h.canonical(ctx, joined); err != nil || name != string(key) {
		return ""
	}
	return knowledge.ServiceKey(joined)
}

// series are the stored buckets of a service's demand, those of its earlier name included.
func (h *host) series(
	ctx context.Context, key knowledge.ServiceKey, tier history.Tier, from, to time.Time,
) ([]history.Bucket, error) {
	own, err := h.store.Learned.Series(key, tier, from, to)
	old := h.earlier(ctx, key)
	if err != nil || old == "" {
		return own, err
	}
	kept, err := h.store.Learned.Series(old, tier, from, to)
	return newer(kept, own, from), err
}

// runs reports whether this host has containers of a service.
func (h *host) runs(ctx context.Context, name string) bool {
	units, _, err := h.containers(ctx)
	if err != nil {
		return false
	}
	for i := range units {
		if string(units[i].Container.Service) == name {
			return true
		}
	}
	return false
}

// recorded reports whether a minute of a service's demand is on record, though none of its
// containers may run any more.
func (h *host) recorded(ctx context.Context, service knowledge.ServiceKey) bool {
	r, err := h.loop.Recorded(ctx, string(service), time.Now())
	if err != nil {
		return false
	}
	for _, tier := range history.Tiers() {
		if len(r.Running[tier]) > 0 {
			return true
		}
		if kept, err := h.series(ctx, service, tier, time.Time{}, time.Now()); err == nil && len(kept) > 0 {
			return true
		}
	}
	return false
}

// records reads the history, one reader at a time: ten thousand records take tens of
// milliseconds of CPU time, and any process that reaches loopback may ask.
func (h *host) records(ctx context.Context, f store.Filter) ([]knowledge.Record, error) {
	select {
	case h.reading <- struct{}{}:
		defer func() { <-h.reading }()
		return h.store.Journal.Records(f)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
