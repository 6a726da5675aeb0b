// Command local runs all of Kernelflow in one process: the API, every step of
// the pipeline, a store, a channel, storage and mail, with nothing to install.
//
//	go run ./local                    # with a small sample tree, until stopped
//	go run ./local -once              # one pass: trigger, build, test, report
//	go run ./local -config DIR -data DIR -addr HOST:PORT
//
// And two checks, which start nothing and need no store:
//
//	go run ./local -validate -config DIR -templates DIR   # what is wrong with a configuration
//	go run ./local -explain EVENT.json -config DIR        # which jobs an event would start, and why not the others
//
// See -help for all settings, and package emulator for what it promises.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/kernelflow/kernelflow/shared/app"
	"github.com/kernelflow/kernelflow/shared/job"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := realMain(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return
	case errors.Is(err, errFaults), errors.Is(err, errProblems):
		// They are printed already.
	default:
		fmt.Fprintln(os.Stderr, "kernelflow:", err)
	}
	stop()
	os.Exit(1)
}

// realMain is the command without its process. The first argument "job" is how
// the shell runtime starts the supervisor of one job.
func realMain(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 2 && args[0] == "job" {
		return job.Run(ctx, args[1], stderr)
	}
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	switch {
	case o.validate:
		return checkConfig(ctx, o, stdout, stderr)
	case o.explain != "":
		return explainEvent(o, os.Stdin, stdout, stderr)
	}
	err = run(ctx, o, stdout, stderr)
	if ctx.Err() == nil || !errors.Is(err, context.Canceled) {
		return err
	}
	if o.once {
		return errStopped
	}
	return nil // it was told to stop, and did
}

// options are the settings with what the flags say.
type options struct {
	app.Config
	addr     string
	once     bool
	validate bool
	explain  string // file of an event; "-" is the standard input
}

func parse(args []string, stderr io.Writer) (options, error) {
	config, err := app.FromEnvironment()
	if err != nil {
		return options{}, err
	}
	o := options{Config: config}
	flags := flag.NewFlagSet("local", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // what is wrong is said once, by main
	flags.StringVar(&o.ConfigDir, "config", o.ConfigDir, "`DIR` of the KernelCI YAML configuration; a small sample without it")
	flags.StringVar(&o.Data, "data", o.Data, "`DIR` of everything that is kept")
	flags.StringVar(&o.addr, "addr", "127.0.0.1:8001", "`HOST:PORT` to serve on; port 0 takes a free one, and the same again at the next start")
	flags.BoolVar(&o.once, "once", false, "one trigger pass over all build configs, run until nothing is pending, print the reports, exit")
	flags.BoolVar(&o.Force, "force", false, "create checkouts even of commits that have one")
	flags.BoolVar(&o.Strict, "strict", o.Strict, "take warnings about the configuration as errors")
	flags.BoolVar(&o.validate, "validate", false, "check the configuration and stop; with -templates also that every scheduled job can be rendered on every\nplatform. The exit status is 1 when there are errors, with -strict also when there are warnings")
	flags.StringVar(&o.explain, "explain", "", "say which jobs an event would start under the configuration, and why not the others, and stop. `FILE` (- for the\nstandard input) holds a CloudEvent, its data, or {\"channel\", \"event\": its data, \"node\", \"ancestors\": [parent, ...]}")
	var templates folders
	flags.Var(&templates, "templates", "`DIR` of job templates, looked through before the shipped ones; may be given several times")
	flags.IntVar(&o.Speed, "speed", 1, "divide holdoffs and the periods of scheduled functions by `N`")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		usage(flags, stderr)
		return options{}, err
	case err != nil:
		return options{}, fmt.Errorf("%w, see -help", err)
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q, see -help", flags.Arg(0))
	}
	if o.Speed < 1 {
		return options{}, fmt.Errorf("-speed %d: must be 1 or more", o.Speed)
	}
	if len(templates) > 0 {
		o.Templates = templates.String()
	}
	o.LocalGit = true
	return o, nil
}

func usage(flags *flag.FlagSet, w io.Writer) {
	fmt.Fprint(w, "Runs all of Kernelflow in one process.\n\nusage: go run ./local [flags]\n\n")
	flags.SetOutput(w)
	flags.PrintDefaults()
	fmt.Fprint(w, "\nSettings from the environment (a flag wins):\n\n")
	if err := app.Describe(w); err != nil {
		fmt.Fprintln(w, err)
	}
}
