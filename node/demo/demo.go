// Package demo shows how limits follow a load: the same load twice, first against fixed
// limits, then with a real daemon. It uses containers of the Docker Engine; without an
// Engine, and as root, plain processes in control groups; else a simulated kernel. It needs
// nothing but its own binary, and leaves nothing behind.
package demo

import (
	"cmp"
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

// Options configure a demonstration.
type Options struct {
	Shape    string        // step, diurnal, flash or leak
	Duration time.Duration // of both runs together
	Plain    bool          // lines instead of a live picture
	Colour   bool
	Out      io.Writer
	Host     string   // the Engine; "": found by Env, as the daemon does
	CertDir  string   // of Host
	Env      []string // as os.Environ
	Binary   string   // the program; "": this one
	Sockets  []string // where a daemon of this host would listen
	Command  string   // how the user started the program, for the hints; "": effiscale
}

// cleanWithin bounds how long everything may take to be removed.
const cleanWithin = 30 * time.Second

// demo is one demonstration.
type demo struct {
	Options
	id     string
	plan   scenario
	kind   kind
	engine Lifecycle
	// address is the Engine's, with what named it.
	address docker.Address
	host    knowledge.Host
	cgroup  *cgroup.Host // nil: kernel files cannot be read
	screen  screen
	undo    []undo // what was made, and how it is removed
}

type undo struct {
	what string
	do   func(context.Context) error
}

// ErrInterrupted says that the context ended, or Ctrl-C was pressed, before the demo was
// done, and that everything was removed.
var ErrInterrupted = errors.New("interrupted; everything that the demo made is removed")

// Run shows the demonstration and removes everything that it made, however it ends.
func Run(ctx context.Context, o Options) error {
	if o.Binary == "" {
		o.Binary = "/proc/self/exe"
	}
	a, err := docker.Find(o.Host, o.Env)
	if err != nil {
		return err
	}
	o.Host, o.CertDir = a.Host, cmp.Or(o.CertDir, a.CertDir)
	if o.Command == "" {
		o.Command = "effiscale"
	}
	d := &demo{Options: o, id: idOf(os.Getpid()), address: a}
	if d.id == "" {
		return errors.New("cannot read /proc/self/stat: is /proc mounted?")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	fixed, scaled, err := d.show(ctx, cancel)
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

// show chooses the kind of the demonstration and plays the load twice.
func (d *demo) show(ctx context.Context, cancel func()) (fixed, scaled result, err error) {
	note, err := d.choose(ctx)
	if err != nil {
		return fixed, scaled, err
	}
	d.print(note)
	if h, err := cgroup.Open(cgroup.Options{Driver: d.host.CgroupDriver}); err == nil && d.kind != simulated {
		d.cgroup = h
	}
	d.plan = planFor(d.Shape, d.Duration, d.host.CPUs, d.free(ctx, d.host.CPUs))
	d.screen = newScreen(d, cancel)
	defer d.screen.close()
	if d.kind == simulated {
		return d.simulate(ctx)
	}
	return d.both(ctx)
}

// directory creates the demo's directory.
func (d *demo) directory() error {
	dir := dirOf(d.id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("cannot create the demo's directory: %w", err)
	}
	d.push("directory "+dir, func(context.Context) error { return os.RemoveAll(dir) })
	return nil
}

// unmanaged checks that no daemon manages the containers of this host.
func (d *demo) unmanaged(ctx context.Context) error {
	for _, socket := range d.Sockets {
		c := api.NewClient(socket)
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := api.OpStatus.Call(ctx, c, api.None{})
		cancel()
		c.Close()
		if err == nil {
			return fmt.Errorf("%w: a daemon manages it already (%s), and both would change the limits of the demo's "+
				"container; look at `effiscale status`, or stop it for the demo: `sudo systemctl stop effiscale`", ErrBusy, socket)
		}
	}
	return nil
}

// free is how many cores are idle, over half a second; all of them where that cannot be
// read.
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

// both plays the load twice, the second time beside a daemon.
func (d *demo) both(ctx context.Context) (fixed, scaled result, err error) {
	if d.kind == containers {
		d.screen.step("making an image of this program")
		d.push("image "+imageOf(d.id), func(ctx context.Context) error { return d.engine.RemoveImage(ctx, imageOf(d.id)) })
		if err := importImage(ctx, d.engine, imageOf(d.id), d.Binary); err != nil {
			return fixed, scaled, err
		}
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
