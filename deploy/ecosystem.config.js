// pm2: pm2 start deploy/ecosystem.config.js && pm2 save
module.exports = {
  apps: [
    {
      name: "fullet",
      cwd: `${__dirname}/..`,
      script: "app.py",
      interpreter: `${__dirname}/../.venv/bin/python`,
      autorestart: true,
      restart_delay: 5000,
      // 2 means "mend your settings": starting again would not help.
      stop_exit_codes: [0, 2],
      // The bot delivers what is drawn (20 s at most) before it ends.
      kill_timeout: 40000,
    },
  ],
};
