"""A unit of the machine: take-over, restart, crashes, watchdog, stop, reboot, removal."""
import time

from lib import Guest, check, main


def test(vm):
    guest = Guest(vm)
    guest.install()
    guest.run('clmgr start "sleep 100001" --name a -i 3')
    guest.run('clmgr start "sleep 100002" --name idle; clmgr stop idle')
    before = guest.pids()

    guest.run('clmgr startup')
    check('startup takes over what runs', guest.pids() == before, before, guest.pids())
    check('the unit is active and enabled', guest.systemctl('is-active clmgr; systemctl is-enabled clmgr').split() == ['active', 'enabled'])
    check('the unit has the keeper', guest.main_pid() == guest.ping()['keeper_pid'])
    check('the unit says how it is', guest.property('StatusText') == '1 app online, 1 stopped', guest.property('StatusText'))
    guest.run('cd /srv && clmgr start')
    guest.run('clmgr scale a 4; clmgr stop a:1')
    before = guest.pids()
    check('a second startup changes nothing', 'taken over' not in guest.run('clmgr startup') and guest.pids() == before)

    def same(what):
        now = guest.pids()
        check('same pids after ' + what, now == before, before, now)
        guest.run('clmgr send talker %s' % what.split()[0])
        guest.until('input works after ' + what, lambda: 'heard ' + what.split()[0] in guest.lines('talker'))
        check('nothing was lost by ' + what, 'lost' not in guest.lines('talker'), guest.lines('talker'))

    def replaced(old):
        guest.until('another keeper', lambda: guest.main_pid() not in (0, old))

    keeper = guest.main_pid()
    guest.systemctl('restart clmgr')
    check('another keeper', guest.main_pid() != keeper)
    same('restart of the unit')

    keeper = guest.main_pid()
    guest.systemctl('kill --kill-who=main --signal=KILL clmgr')
    replaced(keeper)
    same('keeper-death')

    keeper = guest.main_pid()
    guest.run('kill -9 $(pgrep -x clmgr)')
    replaced(keeper)
    same('death-of-both')

    # Nothing is proved in less time than this where the processor is emulated.
    guest.run('mkdir -p /etc/systemd/system/clmgr.service.d; printf "[Service]\\nWatchdogSec=16s\\n" >/etc/systemd/system/clmgr.service.d/test.conf')
    guest.systemctl('daemon-reload; systemctl restart clmgr')
    guest.pids()
    ping, keeper = guest.ping(), guest.main_pid()
    guest.run('kill -STOP %d' % ping['pid'])
    guest.until('a hung daemon is replaced', lambda: guest.try_run('kill -0 %d' % ping['pid']).rc != 0)
    same('hang of the daemon')
    check('by the keeper', guest.main_pid() == keeper, keeper, guest.main_pid())
    guest.run('kill -STOP %d' % keeper)
    replaced(keeper)
    same('keeper-hang')

    guest.run('clmgr kill')
    guest.until('a killed clmgr stays away', lambda: guest.try_run('systemctl is-active clmgr').out.strip() == 'inactive')
    check('with its apps', guest.sleepers() == {}, guest.sleepers())
    guest.run('clmgr resurrect')
    check('a command that starts clmgr starts the unit', guest.main_pid() == guest.ping()['keeper_pid'])

    wanted = {'a:0': 'online', 'a:1': 'stopped', 'a:2': 'online', 'a:3': 'online', 'idle:0': 'stopped', 'talker:0': 'online', 'graceful:0': 'online'}
    guest.until('all is as wanted', lambda: guest.states() == wanted)
    guest.run('rm -f /var/tmp/bye')
    guest.systemctl('stop clmgr')
    check('a stop is graceful', guest.run('cat /var/tmp/bye') == 'bye')
    check('a stop leaves nothing', guest.sleepers() == {} and guest.try_run('pgrep -f talker.js').rc != 0, guest.sleepers())
    guest.systemctl('start clmgr')

    guest.reboot()
    guest.unit_is_up()
    check('all was started before the unit was ready', guest.sleepers() == {'100001': 3}, guest.sleepers())
    guest.until('all is as wanted after a reboot', lambda: guest.states() == wanted)

    before = guest.pids()
    guest.run('clmgr unstartup')
    check('the unit is gone', guest.try_run('systemctl cat clmgr').rc != 0)
    check('the apps are not', guest.pids() == before, before, guest.pids())
    check('nothing to remove', 'nothing' in guest.run('clmgr unstartup'))


main(test, 'unit')
