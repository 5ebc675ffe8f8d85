// pm2: pm2 start deploy/ecosystem.config.js && pm2 save
module.exports = {
  apps: [
    {
      name: "fullet",
      cwd: `${__dirname}/..`,
      script: "app.py",
      interpreter: `${__dirname}/../.venv/bin/python`,
      autorestart: true,
      // Every start is a new session at Discord, and after 1,000 sessions in a day Discord makes the token worthless. So: 5 s at
      // first, growing to the 15 s that pm2 allows, and after 100 starts that lived less than a minute no more (pm2 restart fullet).
      exp_backoff_restart_delay: 5000,
      min_uptime: 60000,
      max_restarts: 100,
      // 2 means "mend your settings": starting again would not help.
      stop_exit_codes: [0, 2],
      // The bot delivers what is drawn (20 s at most) before it ends.
      kill_timeout: 40000,
    },
  ],
};
