package catalog

import (
	"cmp"
	"crypto/rand"
	"os"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/functions/callback"
	"github.com/kernelflow/kernelflow/functions/regression"
	"github.com/kernelflow/kernelflow/functions/relay"
	"github.com/kernelflow/kernelflow/functions/report"
	"github.com/kernelflow/kernelflow/functions/results"
	"github.com/kernelflow/kernelflow/functions/retry"
	"github.com/kernelflow/kernelflow/functions/scheduler"
	"github.com/kernelflow/kernelflow/functions/tarball"
	"github.com/kernelflow/kernelflow/functions/timeout"
	"github.com/kernelflow/kernelflow/functions/trigger"
	"github.com/kernelflow/kernelflow/shared/app"
)

func openAPI(a *app.App) (Handler, error) {
	h, err := api.New(api.Options{
		Store: a.Store, Watch: a.Watch, Bus: a.Bus, Storage: a.Storage, Auth: a.Auth,
		Mail: a.Mail, MailFrom: a.Config.MailFrom, URL: a.APIURL(),
		KeepAlive: a.Config.KeepAlive, PopWait: a.Config.PopWait, MaxUpload: a.Config.MaxUpload, Now: a.Now, Rand: a.Rand, Log: a.Log,
		Metrics: a.Metrics,
	})
	return Handler{HTTP: h}, err
}

func openCallback(a *app.App) (Handler, error) {
	h, err := callback.New(callback.Options{
		Config: a.Pipeline, Store: a.Store, Storage: a.Storage, Patches: a.Patches(), Auth: a.Auth, Tokens: a.Tokens, Owner: a.Config.AdminName,
		Now: a.Now, Rand: a.Rand, Log: a.Log,
	})
	return Handler{HTTP: h}, err
}

func openTrigger(a *app.App) (Handler, error) {
	f, err := trigger.New(trigger.Options{
		Config: a.Pipeline, Store: a.Store, Git: a.Git, HTTP: a.Outbound(), Owner: a.Config.AdminName,
		Timeout: a.Config.CheckoutTimeout, Force: a.Config.Force, Now: a.Now, Log: a.Log,
	})
	if err != nil {
		return Handler{}, err
	}
	return Handler{Tick: f.Tick}, nil
}

func openTarball(a *app.App) (Handler, error) {
	f, err := tarball.New(tarball.Options{
		Store: a.Store, Storage: a.Storage, Git: a.Git, Patches: a.Patches(), Holdoff: a.Divided(a.Config.Holdoff),
		Attempts: a.Config.TarballAttempts,
		Now:      a.Now, Progress: a.Progress, Log: a.Log,
	})
	if err != nil {
		return Handler{}, err
	}
	return Handler{Event: f.Handle}, nil
}

func openScheduler(a *app.App) (Handler, error) {
	f, err := newScheduler(a)
	if err != nil {
		return Handler{}, err
	}
	return Handler{Event: f.Handle}, nil
}

func openRetry(a *app.App) (Handler, error) {
	f, err := retry.New(retry.Options{Store: a.Store, Owner: a.Config.AdminName, Now: a.Now, Log: a.Log})
	if err != nil {
		return Handler{}, err
	}
	return Handler{Event: f.Handle}, nil
}

func openSubmit(a *app.App) (Handler, error) {
	f, err := newScheduler(a)
	if err != nil {
		return Handler{}, err
	}
	return Handler{Tick: f.Tick}, nil
}

func newScheduler(a *app.App) (*scheduler.Function, error) {
	return scheduler.New(scheduler.Options{
		Config: a.Pipeline, Store: a.Store, Storage: a.Storage, Renderer: a.Templates, Runtimes: a.Runtimes, Token: a.Auth.JobToken,
		APIURL: a.APIURL(), StorageURL: a.StorageURL(), InstanceID: a.Config.InstanceID, Holdoff: a.Divided(a.Config.Holdoff),
		InstanceCallback: a.Config.InstanceCallback, ImagePrefix: a.Config.ImagePrefix, Fetch: a.Artifacts(),
		Attempts: Attempts, Owner: a.Config.AdminName, Metrics: a.Metrics, Now: a.Now, Log: a.Log,
	})
}

func openResults(a *app.App) (Handler, error) {
	f, err := newResults(a)
	if err != nil {
		return Handler{}, err
	}
	return Handler{Event: f.Handle}, nil
}

func openPoll(a *app.App) (Handler, error) {
	f, err := newResults(a)
	if err != nil {
		return Handler{}, err
	}
	return Handler{Tick: f.Tick}, nil
}

func newResults(a *app.App) (*results.Function, error) {
	return results.New(results.Options{
		Store: a.Store, Storage: a.Storage, Runtimes: a.Runtimes, Owner: a.Config.AdminName,
		After: a.Divided(a.Config.PollAfter), Period: a.Divided(Seconds(pollPeriod).Duration()), Now: a.Now, Log: a.Log,
	})
}

func openTimeout(a *app.App) (Handler, error) {
	f, err := timeout.New(timeout.Options{Store: a.Store, Now: a.Now, Log: a.Log})
	if err != nil {
		return Handler{}, err
	}
	return Handler{Tick: f.Tick}, nil
}

func openRegression(a *app.App) (Handler, error) {
	f, err := regression.New(regression.Options{Store: a.Store, Log: a.Log})
	if err != nil {
		return Handler{}, err
	}
	return Handler{Event: f.Handle}, nil
}

func openReport(a *app.App) (Handler, error) {
	host, err := os.Hostname()
	if err != nil {
		return Handler{}, err
	}
	f, err := report.New(report.Options{
		Store: a.Store, Sender: a.Mail, From: a.Config.MailFrom, To: a.Config.MailTo, Owner: a.Config.AdminName, Prefix: a.Config.MailPrefix,
		URL: a.APIURL(), Holder: cmp.Or(host, "host") + "/" + rand.Text(), Log: a.Log,
	})
	if err != nil {
		return Handler{}, err
	}
	return Handler{Event: f.Handle}, nil
}

func openRelay(a *app.App) (Handler, error) {
	f, err := relay.New(relay.Options{
		Store: a.Store, Storage: a.Storage, Flush: a.Store.Flush,
		Events: a.Config.Retention, Telemetry: a.Config.TelemetryLife, Schedule: a.Config.ScheduleLife, Nodes: a.Config.NodesLife, Now: a.Now, Log: a.Log,
	})
	if err != nil {
		return Handler{}, err
	}
	return Handler{Tick: f.Tick}, nil
}
