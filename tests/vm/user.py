"""A user's own clmgr: found from any environment, started with the machine although nobody logs in."""
from lib import DATABASE, Guest, check, main


def test(vm):
    guest = Guest(vm, 'app')
    guest.install()
    # As cron would, with no runtime folder and no login.
    bare = 'env -i HOME=/home/app PATH=/usr/local/bin:/usr/bin:/bin '
    guest.run(bare + 'clmgr start "sleep 100001" --name a -i 2')
    check('a login finds what cron has started', guest.ping()['keeper_pid'] > 0 and guest.sleepers() == {'100001': 2})
    guest.run('clmgr kill')
    check('and ends it', guest.sleepers() == {}, guest.sleepers())

    refused = guest.try_run('clmgr startup')
    check('without root linger is refused, with the next step', refused.rc == 6 and 'startup --user app' in refused.err, refused)
    check('and nothing was written', guest.try_run('ls ~/.config/systemd/user').rc != 0)
    check('nor may it be done for others', guest.try_run('clmgr startup --user app2').rc == 6)

    guest.run(bare + 'clmgr start "sleep 100001" --name a -i 2; clmgr start "sleep 100002" --name idle; clmgr stop idle')
    before = guest.pids()
    guest.root('clmgr startup --user app')
    check('root does it for a user', guest.systemctl('is-active clmgr; systemctl --user is-enabled clmgr').split() == ['active', 'enabled'])
    check('who owns the unit', guest.root('stat -c %U /home/app/.config/systemd/user/clmgr.service') == 'app')
    check('what ran was taken over', guest.pids() == before, before, guest.pids())
    guest.run('cd /srv && clmgr start --only talker')
    before = guest.pids()
    guest.systemctl('restart clmgr')
    check('same pids after a restart', guest.pids() == before, before, guest.pids())
    check('nothing was lost', 'lost' not in guest.lines('talker'), guest.lines('talker'))
    check('the same clmgr without a login', guest.run(bare + 'clmgr pid').split() == guest.run('clmgr pid').split())
    guest.run('clmgr scale a 3')

    guest.reboot()
    guest.unit_is_up()
    check('all was started before the unit was ready', guest.sleepers() == {'100001': 3}, guest.sleepers())
    wanted = {'a:0': 'online', 'a:1': 'online', 'a:2': 'online', 'idle:0': 'stopped', 'talker:0': 'online'}
    guest.until('all is as wanted after a reboot', lambda: guest.states() == wanted)
    check('the database is sound', guest.root(DATABASE % guest.home) == 'ok []')

    before = guest.pids()
    guest.root('clmgr unstartup --user app')
    check('the unit is gone', guest.try_run('ls ~/.config/systemd/user/clmgr.service').rc != 0)
    check('the apps are not', guest.pids() == before, before, guest.pids())
    guest.run('clmgr kill')
    check('until they are told', guest.sleepers() == {}, guest.sleepers())


main(test, 'user')
