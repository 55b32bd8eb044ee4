// Package demo shows on real containers how limits follow a load: the same load
// twice, first against fixed limits, then with a real daemon. It needs a Docker
// Engine and its own binary, and leaves nothing behind.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// Options are what a demonstration is told.
type Options struct {
	Shape    string        // step, diurnal, flash or leak
	Duration time.Duration // of both runs together
	Plain    bool          // lines instead of a live picture
	Colour   bool
	Out      io.Writer
	Host     string   // the Engine; "": docker.DefaultHost
	Binary   string   // the program; "": this one
	Sockets  []string // where a daemon of this host would listen
}

// cleanWithin bounds how long everything may take to be removed.
const cleanWithin = 30 * time.Second

// demo is one demonstration under way.
type demo struct {
	Options
	id     string
	plan   plan
	engine *docker.Client
	cgroup *cgroup.Host // nil: kernel files cannot be read
	screen screen
	undo   []undo // what was made, and how it goes away again
}

type undo struct {
	what string
	do   func(context.Context) error
}

// ErrInterrupted says that the context ended, or somebody pressed Ctrl-C, before
// the demo did, and that everything was removed.
var ErrInterrupted = errors.New("interrupted; everything that the demo made is removed")

// Run shows the demonstration and removes everything that it made, however it
// ends.
func Run(ctx context.Context, o Options) (err error) {
	if o.Binary == "" {
		o.Binary = "/proc/self/exe"
	}
	if o.Host == "" {
		o.Host = docker.DefaultHost
	}
	if err := checkStatic(o.Binary); err != nil {
		return err
	}
	d := &demo{Options: o, id: idOf(os.Getpid())}
	if d.id == "" {
		return errors.New("cannot read /proc/self/stat: is /proc mounted?")
	}
	if d.engine, err = docker.Open(docker.Options{Host: o.Host}); err != nil {
		return err
	}
	defer d.engine.Close()
	host, err := d.prepare(ctx)
	if err != nil {
		return err
	}
	d.plan = planFor(o.Shape, o.Duration, host.CPUs, d.free(ctx, host.CPUs))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.screen = newScreen(&d.Options, &d.plan, cancel)
	fixed, scaled, err := d.both(ctx)
	d.screen.close()
	if err != nil && ctx.Err() != nil {
		err = ErrInterrupted
	}
	if cerr := d.clean(ctx); cerr != nil {
		return errors.Join(err, cerr)
	}
	if err != nil {
		return err
	}
	return d.summary(fixed, scaled)
}

// prepare looks whether the host is there and free.
func (d *demo) prepare(ctx context.Context) (knowledge.Host, error) {
	host, err := d.engine.Host(ctx)
	if err != nil {
		return host, err
	}
	for _, socket := range d.Sockets {
		c := api.NewClient(socket)
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := c.Status(ctx)
		cancel()
		c.Close()
		if err == nil {
			return host, fmt.Errorf("%w: a daemon manages it already (%s), and two would quarrel over the demo's container; "+
				"look at `effiscale status`, or stop it for the demo: `sudo systemctl stop effiscale`", ErrBusy, socket)
		}
	}
	if h, err := cgroup.Open(cgroup.Options{Driver: host.CgroupDriver}); err == nil {
		d.cgroup = h
	}
	return host, survey(ctx, d.engine)
}

// free is how many cores nobody uses, over half a second; all of them where that
// cannot be read.
func (d *demo) free(ctx context.Context, cores int) float64 {
	if d.cgroup == nil {
		return float64(cores)
	}
	usage, err := d.cgroup.OpenUsage()
	if err != nil {
		return float64(cores)
	}
	defer usage.Close()
	var s cgroup.HostSample
	if usage.Read(&s) != nil {
		return float64(cores)
	}
	select {
	case <-ctx.Done():
	case <-time.After(500 * time.Millisecond):
	}
	if usage.Read(&s) != nil {
		return float64(cores)
	}
	return max(0, float64(cores)-s.CPU.Cores())
}

// both makes the stage and plays the load twice.
func (d *demo) both(ctx context.Context) (fixed, scaled result, err error) {
	dir := dirOf(d.id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fixed, scaled, fmt.Errorf("cannot make the demo's directory: %w", err)
	}
	d.push("directory "+dir, func(context.Context) error { return os.RemoveAll(dir) })
	d.screen.step("making an image of this program")
	d.push("image "+imageOf(d.id), func(ctx context.Context) error { return d.engine.RemoveImage(ctx, imageOf(d.id)) })
	if err := importImage(ctx, d.engine, imageOf(d.id), d.Binary); err != nil {
		return fixed, scaled, err
	}
	if fixed, err = d.act(ctx, "fixed", nil, nil); err != nil {
		return fixed, scaled, err
	}
	d.screen.step("starting a daemon of its own")
	priv, err := startDaemon(ctx, d.Options, d.id)
	if err != nil {
		return fixed, scaled, err
	}
	d.push("daemon", func(context.Context) error { return priv.stop() })
	labels := map[string]string{}
	for _, l := range d.plan.labels() {
		labels[l[0]] = l[1]
	}
	scaled, err = d.act(ctx, "scaled", labels, priv.client)
	return fixed, scaled, err
}

// act is one run: a container, the load, its result.
func (d *demo) act(ctx context.Context, name string, labels map[string]string, daemon *api.Client) (result, error) {
	spec := d.plan.spec(d.id, name, labels)
	// A create whose answer is lost may have had its effect: it is removed by label.
	d.push("container "+spec.Name, d.removeContainers)
	id, err := d.engine.Create(ctx, spec)
	if err != nil {
		return result{}, err
	}
	r := &run{demo: d, id: id, name: spec.Name, daemon: daemon, scaled: daemon != nil,
		sampler: &sampler{engine: d.engine, daemon: daemon, host: d.cgroup}}
	res, err := r.play(ctx)
	if err != nil {
		return res, err
	}
	return res, d.engine.Remove(ctx, id)
}

// removeContainers removes every container of this demo.
func (d *demo) removeContainers(ctx context.Context) error {
	all, err := d.engine.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range all {
		if c.Labels[label] == d.id {
			errs = append(errs, d.engine.Remove(ctx, c.ID))
		}
	}
	return errors.Join(errs...)
}

func (d *demo) push(what string, do func(context.Context) error) {
	d.undo = append(d.undo, undo{what, do})
}

// clean removes what was made, newest first, also when ctx has ended.
func (d *demo) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanWithin)
	defer cancel()
	var errs []error
	for len(d.undo) > 0 {
		u := d.undo[len(d.undo)-1]
		d.undo = d.undo[:len(d.undo)-1]
		if err := u.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("cannot remove the demo's %s; the next demo will: %w", u.what, err))
		}
	}
	return errors.Join(errs...)
}
