"""What the tests in a virtual machine share: a guest with clmgr in it, and checks that say what they saw."""
import json, os, random, sys, threading, time

RIG = os.environ.get('CLMGR_RIG') or os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../../shared/rigs/vm')
sys.path.insert(0, RIG)
from vm import VM, RigError  # noqa: E402

LONG = os.environ.get('CLMGR_VM') == 'long'
SEED = int(os.environ.get('CLMGR_VM_SEED') or random.SystemRandom().randrange(1 << 30))
PATIENCE = 240
# For a whole script: whatever no other wait has foreseen ends here.
LIMIT = 4 * 3600 if LONG else 600
# The rig's agent serves the ports that it finds when it starts. At a boot their names appear one by one, and it may
# see some of them only: then it never hears the one that it is asked on.
PORTS = """mkdir -p /etc/systemd/system/rig-agent.service.d
cat >/etc/systemd/system/rig-agent.service.d/ports.conf <<'END'
[Service]
ExecStartPre=/bin/sh -c 'for n in 0 1 2 3; do until test -e /dev/virtio-ports/rig.$$n; do sleep 0.1; done; done'
END
systemctl daemon-reload"""

# Talks over its channel and its input, and says when either is gone.
TALKER = '''
process.on('disconnect', () => console.log('channel lost'));
process.stdin.on('data', data => console.log('heard ' + data.toString().trim()));
process.stdin.on('end', () => console.log('input lost'));
process.send('ready');
setInterval(() => {}, 1e6);
'''
# Takes a second to say goodbye.
GRACEFUL = '#!/bin/sh\ntrap "sleep 1; echo bye >>/var/tmp/bye; exit 0" TERM\nwhile :; do sleep 0.2; done\n'
FILE = '''
[[apps]]
name = "talker"
script = "talker.js"
ready = "ipc"
listen_timeout = "90s"
[[apps]]
name = "graceful"
cmd = "/srv/graceful.sh"
kill_timeout = "30s"
'''
DATABASE = '''
rm -rf /tmp/db; mkdir /tmp/db; cp %s/clmgr.db* /tmp/db/; python3 -c "
import sqlite3
c = sqlite3.connect('/tmp/db/clmgr.db')
print(c.execute('pragma integrity_check').fetchone()[0], c.execute('pragma foreign_key_check').fetchall())"
'''


class Failed(Exception):
    pass


def say(*words):
    print(time.strftime('%H:%M:%S'), *words, flush=True)


def check(what, holds, *seen):
    say('ok  ' if holds else 'FAIL', what, *([] if holds else seen))
    if not holds:
        raise Failed(what)


class Guest:
    """A machine with clmgr, used as one user."""

    def __init__(self, vm, user='root'):
        self.vm, self.user = vm, user
        self.home = '/var/lib/clmgr' if user == 'root' else '/home/%s/.local/state/clmgr' % user
        self.log = '/var/log/clmgr/clmgr.log' if user == 'root' else self.home + '/logs/clmgr.log'
        self.scope = '' if user == 'root' else '--user '

    def install(self):
        self.root(PORTS)
        self.vm.push(os.environ['CLMGR_VM_BINARY'], '/usr/local/bin/clmgr')
        self.root('cat >/srv/talker.js', stdin=TALKER)
        self.root('cat >/srv/graceful.sh; chmod 755 /srv/graceful.sh; mkdir -m 777 -p /var/tmp', stdin=GRACEFUL)
        self.root('cat >/srv/ecosystem.toml', stdin=FILE)

    def try_run(self, command, **options):
        options.setdefault('timeout', 180)
        options.setdefault('user', None if self.user == 'root' else self.user)
        return self.vm.run(command, check=False, **options)

    def run(self, command, **options):
        r = self.try_run(command, **options)
        if r.rc != 0 or r.timed_out:
            raise Failed('%s: exit %d%s\n%s%s' % (command, r.rc, ' (timeout)' if r.timed_out else '', r.out, r.err))
        return r.out.strip()

    def root(self, command, **options):
        return self.run(command, user=None, **options)

    def systemctl(self, words):
        return self.run('systemctl %s%s' % (self.scope, words))

    def property(self, name):
        return self.systemctl('show clmgr --value --property=' + name)

    def main_pid(self):
        return int(self.property('MainPID'))

    def status(self):
        return json.loads(self.run('clmgr status --json'))['apps']

    def ping(self):
        return json.loads(self.run('clmgr ping --json'))

    def pids(self):
        """Of what runs: {'api:0': 17}."""
        return {'%s:%d' % (app['name'], one['slot']): one['pid'] for app in self.status() for one in app['instances'] if one['pid']}

    def states(self):
        return {'%s:%d' % (app['name'], one['slot']): one['state'] for app in self.status() for one in app['instances']}

    def sleepers(self):
        """How many processes `sleep N` of this user there are, by N, whatever clmgr says."""
        out = self.root("ps -eo user:20,args | awk '$2 == \"sleep\" && $3 >= 100000 {print $1, $3}'")
        found = {}
        for line in out.splitlines():
            user, number = line.split()
            if user == self.user:
                found[number] = found.get(number, 0) + 1
        return found

    def lines(self, app):
        return self.run('clmgr logs %s --nostream --lines 1000' % app)

    def until(self, what, holds):
        end = time.monotonic() + PATIENCE
        while True:
            seen = holds()
            if seen:
                return check(what, True)
            if time.monotonic() > end:
                check(what, False, self.report())
            time.sleep(0.2)

    def boot(self):
        """Starts the machine; everything that it starts by itself has been started then."""
        self.vm.start(wait=False)
        begin = time.monotonic()
        try:
            self.vm.wait_agent(PATIENCE)
        except RigError as error:
            check("the machine's agent answers", False, error)
        ready, state = time.monotonic(), None
        while state not in ('running', 'degraded'):
            state = self.try_run('systemctl is-system-running', user=None, timeout=60).out.strip()
            if time.monotonic() > ready + PATIENCE:
                jobs = self.try_run('systemctl list-jobs --no-pager; systemctl --failed --no-pager', user=None).out
                check('the machine is up', False, state, jobs, self.report())
            time.sleep(0.2)
        say('booted in %.0f s, %s' % (time.monotonic() - begin, state))

    def reboot(self):
        self.try_run('systemctl --no-block reboot', user=None)
        end = time.monotonic() + PATIENCE
        while self.vm.pid() is not None:
            if time.monotonic() > end:
                check('the machine goes down', False, self.vm.console()[-3000:])
            time.sleep(0.1)
        self.boot()

    def unit_is_up(self):
        """After a boot: nobody has asked clmgr anything yet."""
        if self.user != 'root':
            uid = self.root('id -u ' + self.user)
            self.until("the user's manager runs", lambda: self.try_run('systemctl is-active user@%s' % uid, user=None).rc == 0)
        self.until('the unit is active', lambda: self.try_run('systemctl %sis-active clmgr' % self.scope).rc == 0)

    def report(self):
        r = self.try_run('clmgr status; clmgr events --limit 40; systemctl %sstatus clmgr --no-pager -l; ps -ef; tail -30 %s;'
                         ' journalctl -b --no-pager | grep clmgr | tail -40' % (self.scope, self.log))
        return '\n' + r.out + r.err


def main(test, name, **options):
    """Runs a test in a machine of its own, which ends with it."""
    say('seed', SEED, '(CLMGR_VM_SEED)', 'long' if LONG else 'short')
    vm = VM('clmgr-%s-%d' % (name, os.getpid()), fresh=True, warm=True, **options)

    def give_up():
        say('FAIL not done after %d s; the console says:\n%s' % (LIMIT, vm.console()[-3000:]))
        vm.destroy()
        os._exit(1)

    limit = threading.Timer(LIMIT, give_up)
    limit.daemon = True
    limit.start()
    begin = time.monotonic()
    try:
        vm.start()
        test(vm)
        say('done in %.0f s' % (time.monotonic() - begin))
    except (Failed, RigError, OSError) as error:
        say('FAIL', error)
        sys.exit(1)
    finally:
        limit.cancel()
        vm.destroy()
